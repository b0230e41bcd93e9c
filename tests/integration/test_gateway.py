"""The gateway with a registry and services as real processes: drains, kills, hangs, restarts; WebSockets; TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

import asyncio_servers
from free_ports import free_port
from gateway_instance import SERVICE
from gateway_process import GatewayProcess, Provider, Recorder, gateway, read_request
from townhall_process import DEADLINE_S, TownhallProcess
from townhall_process import until as until_true

Start = Callable[..., TownhallProcess]


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(300):
            await main

    asyncio.run(bounded())


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(120):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within 120 s: {what}") from None


CLIENTS = 4


class Load:
    """Clients that ask all the time, one request after the other, each on a connection that it keeps."""

    def __init__(self, address: tuple[str, int], method: str) -> None:
        self.address = address
        self.method = method
        self.answers: Counter[str] = Counter()
        self.lost: list[str] = []
        """What went wrong, each a request that was lost."""
        self.turns = [0] * CLIENTS
        """Requests that each client has got an answer to, or lost."""
        self._going = True
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def done(self) -> int:
        return sum(self.answers.values())

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._going = False
        await asyncio.gather(*self._tasks)

    async def round(self) -> None:
        """Returns when no request runs any more that ran at the call."""
        before = list(self.turns)
        await until(
            lambda: all(now > then for now, then in zip(self.turns, before, strict=True)), "each client goes on"
        )

    async def _client(self, number: int) -> None:
        raw = f"{self.method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
        while self._going:
            try:
                reader, writer = await asyncio.open_connection(*self.address)
                while self._going:
                    writer.write(raw)
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                    body = await reader.readexactly(length)
                    if head.startswith(b"HTTP/1.1 200 "):
                        self.answers[body.decode().strip()] += 1
                    else:
                        self.lost.append(body.decode())
                    self.turns[number] += 1
                    await asyncio.sleep(0.001)
                writer.close()
            except (OSError, EOFError) as error:
                self.lost.append(repr(error))
                self.turns[number] += 1


ROUTE = f"""
[[route]]
service = "{SERVICE}"
first_byte_timeout = "%s"
retries = 3
"""


@pytest.fixture
def site(
    request: pytest.FixtureRequest, start: Start, tmp_path: Path
) -> Iterator[tuple[TownhallProcess, GatewayProcess, dict[str, Provider]]]:
    registry = start("--data", str(tmp_path / "data"))
    file = tmp_path / "gateway.toml"
    # A machine that is busy may let anybody wait; only who is to hang is given up.
    file.write_text(ROUTE % getattr(request, "param", "30s"))
    providers = {name: Provider(registry.url, name) for name in ("a", "b", "c")}
    try:
        for one in providers.values():
            one.says("ready")
        with gateway("--server", registry.url, "--config", str(file)) as process:
            yield registry, process, providers
    finally:
        for one in providers.values():
            one.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_drain_loses_no_request_whatever_its_method(site, method: str) -> None:
    _, front, providers = site

    async def main() -> None:
        async with Load(front.address, method) as load:
            await until(lambda: len(load.answers) == 3, "all three answer")
            providers["b"].process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(providers["b"].says, "drained")
            # What the gateway had sent to it before it knew is answered; nothing may come any more.
            await load.round()
            providers["b"].leave()
            await until(lambda: providers["b"].process.poll() is not None, "it has left")
            before = load.done
            await until(lambda: load.done > before + 200, "the others go on")
        assert load.lost == []

    run(main())


def test_a_gateway_that_stands_still_in_a_drain_loses_no_request(site) -> None:
    _, front, providers = site

    async def main() -> None:
        async with Load(front.address, "POST") as load:
            await until(lambda: len(load.answers) == 3, "all three answer")
            for name in ("b", "c"):
                providers[name].process.send_signal(signal.SIGTERM)
                await asyncio.sleep(random.uniform(0.0, 0.1))
                front.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(1.0)
                front.process.send_signal(signal.SIGCONT)
                await asyncio.to_thread(providers[name].says, "drained")
                await load.round()
                providers[name].leave()
                await until(lambda name=name: providers[name].process.poll() is not None, "it has left")
        assert load.lost == []

    run(main())


@pytest.mark.parametrize("site", ["2s"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_death_or_a_hang_loses_no_idempotent_request(site, number: signal.Signals) -> None:
    _, front, providers = site

    async def main() -> None:
        async with Load(front.address, "GET") as load:
            await until(lambda: len(load.answers) == 3, "all three answer")
            for name in ("a", "b"):
                providers[name].process.send_signal(number)
                before = load.done
                await until(lambda at=before: load.done > at + 300, "the others go on")
        assert load.lost == []

    run(main())


def test_the_registry_may_die_and_come_back(site) -> None:
    registry, front, providers = site

    async def main() -> None:
        async with Load(front.address, "POST") as load:
            await until(lambda: len(load.answers) == 3, "all three answer")
            registry.kill()
            before = load.done
            await until(lambda: load.done > before + 200, "calls go on without a registry")
            await asyncio.to_thread(registry.restart)
            providers["d"] = Provider(registry.url, "d")
            await asyncio.to_thread(providers["d"].says, "ready")
            await until(lambda: load.answers["d"], "who registers afterwards is found")
        assert load.lost == []

    run(main())


def test_a_restart_of_the_gateway_ends_what_runs() -> None:
    runs, go = threading.Event(), threading.Event()

    def held(recorder: Recorder, peer: socket.socket) -> None:
        recorder.received.append(bytearray())
        if read_request(peer, recorder.received[-1], bytearray()) is not None:
            runs.set()
            go.wait(DEADLINE_S)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with Recorder(held) as instance, gateway("--route", f"/=static://127.0.0.1:{instance.port}") as front:
        with socket.create_connection(front.address, timeout=DEADLINE_S) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            assert runs.wait(DEADLINE_S)
            front.process.send_signal(signal.SIGTERM)
            # It listens no longer, so it knows that it is to end; only then may the instance answer.
            _until_refused(front.address)
            go.set()
            answers = b""
            while data := client.recv(65_536):
                answers += data
        assert front.process.wait(DEADLINE_S) == 0
    # The request that ran is answered whole and says that it is the last; what was behind it is left to the client.
    assert answers.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in answers


def _until_refused(address: tuple[str, int]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(address, timeout=DEADLINE_S).close()
        except OSError:
            return
        time.sleep(0.02)
    raise AssertionError("it still listens")


@pytest.mark.parametrize("options", [["--auto"], ["--route", "/a=alpha", "--route", "/b=beta"]])
def test_a_registry_that_does_not_answer_is_told_of_once_for_all_services(options: list[str], start: Start) -> None:
    port = free_port()
    with gateway("--server", f"http://127.0.0.1:{port}", *options) as process:
        told = f"cannot be reached, services that are not known yet wait for it: http://127.0.0.1:{port}: nothing"
        until_true(lambda: told in process.errors, what="it is told")
        start("--dev", "--native", str(port))
        until_true(lambda: "the registry answers" in process.errors, what="so is that it answers")
        assert "alpha" not in process.errors


def test_services_without_a_route(registry: TownhallProcess) -> None:
    provider = Provider(registry.url, "auto")
    try:
        provider.says("ready")
        with gateway("--server", registry.url, "--auto", "--admin", "0") as process:
            with urllib.request.urlopen(f"{process.url}/{SERVICE}/x", timeout=120) as answer:
                assert answer.status == 200
            request = urllib.request.Request(process.url, headers={"Host": f"{SERVICE}.service.townhall"})
            with urllib.request.urlopen(request, timeout=120) as answer:
                assert answer.read() == b"auto"
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{process.url}/nobody/x", timeout=120)
            with refused.value as error:
                assert error.code == 404
                assert json.load(error)["code"] == "unknown_service"
            metrics = f"http://{process.listen['admin']}/metrics"
            # What nobody knows is not followed any longer than it is asked for.
            until_true(
                lambda: 'service="nobody"' not in _text(metrics).partition("_instances{")[2], what="it is forgotten"
            )
            text = _text(metrics)
            assert f'townhall_gateway_requests_total{{route="auto:{SERVICE}",status="2xx"}} 2' in text
            assert "process_resident_memory_bytes" in text
    finally:
        provider.close()


def _text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return str(answer.read().decode())


async def _echo(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


def test_a_web_socket_by_a_real_client() -> None:
    async def main() -> None:
        async with serve(_echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with gateway("--route", f"/ws=static://127.0.0.1:{port}") as process:
                async with connect(f"ws://{process.listen['http']}/ws/x", max_size=None) as client:
                    for message in ("text", b"bytes", "", "x" * 200_000, b"y" * 1_000_000):
                        await client.send(message)
                        assert await client.recv() == message
                    await (await client.ping())
                async with connect(f"ws://{process.listen['http']}/ws/x") as leaving:
                    await leaving.send("before")
                    assert await leaving.recv() == "before"
                    code = await asyncio.gather(asyncio.to_thread(process.terminate), leaving.wait_closed())
                    assert code[0] == 0
                    assert leaving.close_code == 1001

    run(main())


def _agreed(address: tuple[str, int], authority_file: Path) -> str | None:
    """What a client that speaks both is offered."""
    context = ssl.create_default_context(cafile=authority_file)
    context.set_alpn_protocols(["http/1.1", "h2"])
    with (
        socket.create_connection(address, timeout=DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        return client.selected_alpn_protocol()


@pytest.mark.skipif(shutil.which("curl") is None, reason="a client that is not ours: curl")
def test_curl_over_http2(tmp_path: Path) -> None:
    async def main() -> None:
        body = bytes(range(256)) * 8_192

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            came = b""
            while not came.endswith(b"\r\n0\r\n\r\n"):
                came += await reader.read(65_536)
            assert b"transfer-encoding: chunked" in head
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        (tmp_path / "up").write_bytes(body)
        with gateway("--route", f"/=static://127.0.0.1:{server.sockets[0].getsockname()[1]}") as process:
            command = [
                "curl",
                "-s",
                "--http2-prior-knowledge",
                "-H",
                "Content-Length:",
                "-T",
                "-",
                "-w",
                "%{http_version}",
            ]
            curl = await asyncio.create_subprocess_exec(
                *command, f"{process.url}/up", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
            said, _ = await curl.communicate(body)
            assert said == body + b"2"
        await asyncio_servers.close(server)

    run(main())


def test_tls_on_both_sides(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    paths = {name: tmp_path / name for name in ("cert", "key", "ca")}
    certificate.cert_chain_pems[0].write_to_path(paths["cert"])
    certificate.private_key_pem.write_to_path(paths["key"])
    authority.cert_pem.write_to_path(paths["ca"])
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(server_context)
    client_context = ssl.create_default_context(cafile=paths["ca"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found = b"https" if b"x-forwarded-proto: https" in head else b"http"
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(found), found))
        writer.close()

    def ask(url: str, authority_file: Path) -> bytes:
        with urllib.request.urlopen(url, timeout=120, context=ssl.create_default_context(cafile=authority_file)) as got:
            return bytes(got.read())

    async def main() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context) as server:
            port = server.sockets[0].getsockname()[1]
            file = tmp_path / "gateway.toml"
            file.write_text(
                f'tls = {{ cert = "{paths["cert"]}", key = "{paths["key"]}" }}\n[[route]]\nservice = "static://127.0.0.1:{port}"\n'
                f'tls = true\ntls_ca = "{paths["ca"]}"\ntls_name = "localhost"\nconnect_timeout = "60s"\n'
            )
            with gateway("--config", str(file)) as process:
                url = f"https://localhost:{process.address[1]}/"
                assert await asyncio.to_thread(ask, url, paths["ca"]) == b"https"
                assert await asyncio.to_thread(_agreed, process.address, paths["ca"]) == "h2"
                # Another authority's certificate takes the place of the first without a restart.
                other = trustme.CA()
                again = other.issue_cert("localhost")
                again.cert_chain_pems[0].write_to_path(paths["cert"])
                again.private_key_pem.write_to_path(paths["key"])
                other.cert_pem.write_to_path(tmp_path / "other")
                process.process.send_signal(signal.SIGHUP)
                for _ in range(300):
                    try:
                        assert await asyncio.to_thread(ask, url, tmp_path / "other") == b"https"
                        break
                    except OSError:
                        await asyncio.sleep(0.1)
                else:
                    raise AssertionError("the new certificate was not served")
        assert client_context

    run(main())
