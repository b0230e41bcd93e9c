"""The examples of README and docs, run against a real registry with a real service behind them."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from townhall_process import SOURCE, TownhallProcess, environment

ROOT = SOURCE.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(language: str) -> list[object]:
    return [
        pytest.param(match.group(2), id=f"{page.name}-{number}")
        for page in PAGES
        for number, match in enumerate(FENCE.finditer(page.read_text(encoding="utf-8")), 1)
        if match.group(1) == language
    ]


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def service() -> object:
    """A service that answers, for the port 8080 of the examples."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("code", examples("python"))
def test_python_examples_run(code: str, registry: TownhallProcess, service: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = code.replace("http://127.0.0.1:7500", registry.url).replace("port=8080", f"port={service}")
    namespace: dict[str, object] = {}
    result = eval(compile(code, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
    if inspect.isawaitable(result):

        async def run() -> None:
            await asyncio.wait_for(result, 120)

        asyncio.run(run())


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl")
@pytest.mark.parametrize("code", examples("sh"))
def test_shell_examples_run(code: str, registry: TownhallProcess) -> None:
    code = code.replace("http://127.0.0.1:7500", registry.url)
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, os.environ["PATH"]])
    env = environment({"TOWNHALL_SERVER": registry.url, "PATH": path})
    done = subprocess.run(["sh", "-eu", "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
