"""Providers that drain while one of their consumers stands still: stopped, or starved, after it has chosen and before it
has asked.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gateway_process import Provider
from townhall_process import TownhallProcess, environment

# Four callers without retries, over new connections; between choosing and asking a fifth of a second passes each time.
CALLERS = """
import asyncio, sys
import townhall
from townhall.client.consumer import MirrorState

made, lost = 0, []

async def ask(instance):
    await asyncio.sleep(0.2)
    reader, writer = await asyncio.open_connection(instance.address, instance.port)
    writer.write(b"POST / HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n")
    try:
        await reader.readuntil(b"\\r\\n\\r\\n")
    finally:
        writer.close()

async def caller(handle):
    global made
    while True:
        try:
            await handle.call(ask, retries=0, wait=60.0)
        except Exception as error:
            lost.append(repr(error))
        made += 1

async def main(url, service):
    async with townhall.Consumer(url, snapshot_directory=None) as consumer:
        handle = consumer[service]
        await handle.wait_callable(2, budget_s=120)
        while consumer.state is not MirrorState.CONNECTED:
            await asyncio.sleep(0.02)
        callers = [asyncio.create_task(caller(handle)) for _ in range(4)]
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for one in callers:
            one.cancel()
        await asyncio.wait(callers)
    print(made, *lost, sep="\\n", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def callers(registry: TownhallProcess) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", CALLERS, registry.url, "greeter"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_no_call_is_lost(registry: TownhallProcess, callers: subprocess.Popen[str]) -> None:
    begun: list[Provider] = []
    try:
        serving = [Provider(registry.url, f"p{number}").says("ready") for number in range(2)]
        begun += serving
        assert callers.stdout is not None
        assert callers.stdout.readline() == "ready\n"
        for number in range(2, 5):
            leaving = serving.pop(0)
            leaving.process.send_signal(signal.SIGTERM)
            time.sleep(random.uniform(0.0, 0.2))
            callers.send_signal(signal.SIGSTOP)
            time.sleep(1.0)
            callers.send_signal(signal.SIGCONT)
            leaving.says("drained").leave()
            leaving.process.wait(120)
            begun.append(Provider(registry.url, f"p{number}").says("ready"))
            serving.append(begun[-1])
        said, _ = callers.communicate(timeout=120)
        made, *lost = said.splitlines()
        assert lost == []
        assert int(made) > 12
    finally:
        for one in begun:
            one.close()
