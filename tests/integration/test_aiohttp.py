"""aiohttp on both sides: its server stopped under load, its client as the caller."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import aiohttp
from serving_processes import EXAMPLES, consumer, example, slow_http, stops_without_a_loss, wait_callable

import townhall
from townhall.client.handle import ServiceHandle
from townhall_process import TownhallProcess, environment


def test_a_stop_loses_no_request(registry: TownhallProcess) -> None:
    async def main() -> None:
        async with (
            consumer(registry.url) as found,
            aiohttp.ClientSession(middlewares=[townhall.aiohttp.Balanced(found)]) as session,
        ):

            async def post(handle: ServiceHandle) -> object:
                async with session.post("http://hello-aiohttp/", raise_for_status=True) as answer:
                    return await answer.text()

            await stops_without_a_loss(found["hello-aiohttp"], post, slow_http, (first, second))

    with example("aiohttp_service.py", registry.url) as first, example("aiohttp_service.py", registry.url) as second:
        asyncio.run(asyncio.wait_for(main(), 300))


def test_the_examples_run(registry: TownhallProcess, tmp_path: Path) -> None:
    with example("aiohttp_service.py", registry.url) as process:
        wait_callable(registry.url, "hello-aiohttp")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(EXAMPLES / "aiohttp_client.py"), registry.url],
            env=environment({"XDG_CACHE_HOME": str(tmp_path)}), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert str(process.port) in done.stdout
