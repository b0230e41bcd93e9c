"""``townhall gateway``: its command line, and its life as a process."""

from __future__ import annotations

import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gateway_process import gateway as gateway_running
from townhall.ops import gateway, loops
from townhall.ops.cli import run
from townhall.ops.exits import FAILED, USAGE
from townhall_process import until

PARTS = (gateway, loops)


@contextmanager
def instance(body: bytes = b"hello") -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def body_of(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return bytes(answer.read())


def test_a_route_on_the_command_line(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with (
        instance() as port,
        gateway_running("--route", f"/a=static://127.0.0.1:{port}", "--access-log", str(log)) as process,
    ):
        assert body_of(f"{process.url}/a/b") == b"hello"
        assert process.terminate() == 0
    assert '"GET /a/b HTTP/1.1" 200 5' in log.read_text()


@pytest.mark.parametrize("signalled", [True, False])
def test_new_routes_without_a_restart(tmp_path: Path, signalled: bool) -> None:
    file = tmp_path / "gateway.toml"
    with instance(b"first") as one, instance(b"second") as two:
        file.write_text(f'[[route]]\nservice = "static://127.0.0.1:{one}"\n')
        with gateway_running("--config", str(file)) as process:
            assert body_of(process.url) == b"first"
            file.write_text("this is not TOML")
            process.process.send_signal(signal.SIGHUP)
            assert body_of(process.url) == b"first"
            file.write_text(f'[[route]]\nservice = "static://127.0.0.1:{two}"\n')
            if signalled:
                process.process.send_signal(signal.SIGHUP)
            until(lambda: body_of(process.url) == b"second", what="the new route")


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[[route]]\npath = "/a"\nservice = "user"\n')
    assert run(["gateway", "check", str(file)]) == 0
    assert "*/a -> user" in capsys.readouterr().out
    file.write_text('[[route]]\npath = "a"\nservice = "user"\n')
    assert run(["gateway", "check", str(file)]) == USAGE
    assert "route 1: path" in capsys.readouterr().err
    assert run(["gateway", "--config", str(file)]) == USAGE
    assert f"--config {file}: route 1: path" in capsys.readouterr().err
    assert run(["gateway", "check"]) == USAGE
    assert run(["gateway", "check", str(tmp_path / "none")]) == USAGE


def test_a_taken_port_is_told_as_by_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert run(["gateway", "--route", "/a=static://127.0.0.1:1", "--listen", listen]) == FAILED
    assert f"--listen {listen}: the address is in use; stop what listens there, or choose" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--route", "users"],
        ["--config", "/nonexistent"],
        ["--auto", "--tls-cert", "x"],
        ["--auto", "--listen", "a:b:c"],
    ],
)
def test_mistakes(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gateway", *options]) != 0
    assert "townhall: " in capsys.readouterr().err
