"""How soon consumers hear that a provider was killed.

    python -m bench.detection --url http://127.0.0.1:7500 --kills 30

Each round starts a real provider process (the SDK's), waits until the consumer's mirror has it as callable, kills it
with SIGKILL, and counts the time until the consumer's callback shows that it may not be called any more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time

import townhall
from bench.load import quantiles
from townhall.client.handle import ServiceHandle

SERVICE = "detection"
PROVIDER = """
import asyncio, sys, townhall
async def main():
    async with townhall.Provider(sys.argv[1], service="detection", address="127.9.0.1", port=int(sys.argv[2]), ttl=30):
        await asyncio.sleep(600)
asyncio.run(main())
"""


async def until(handle: ServiceHandle, *, callable_ports: set[int], seconds: float) -> float:
    """The moment at which the mirror shows exactly these ports as callable."""
    changed = asyncio.Event()
    stop = handle.on_change(lambda _: changed.set())
    deadline = time.perf_counter() + seconds
    try:
        while {instance.port for instance in handle.instances() if instance.callable} != callable_ports:
            changed.clear()
            await asyncio.wait_for(changed.wait(), max(0.01, deadline - time.perf_counter()))
        return time.perf_counter()
    finally:
        stop()


async def measure(url: str, kills: int) -> list[float]:
    """Latencies in seconds."""
    latencies = []
    async with townhall.Registry(url) as registry:
        # One killed after the other would engage the removal floor, which is not what is measured here.
        await registry.put_service(SERVICE, settings={"floor": 0.0})
    async with townhall.Consumer(url) as consumer:
        handle = consumer[SERVICE]
        await handle.start()
        for number in range(kills):
            port = 9000 + number
            provider = subprocess.Popen([sys.executable, "-c", PROVIDER, url, str(port)])  # noqa: ASYNC220 - it must be killed
            try:
                await until(handle, callable_ports={port}, seconds=30)
                await asyncio.sleep(0.2)
                killed = time.perf_counter()
                provider.send_signal(signal.SIGKILL)
                latencies.append(await until(handle, callable_ports=set(), seconds=60) - killed)
            finally:
                provider.kill()
                provider.wait()
    return latencies


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--kills", type=int, default=30)
    options = parser.parse_args()
    latencies = asyncio.run(measure(options.url, options.kills))
    json.dump({"kills": options.kills, "latency_ms": quantiles(latencies)}, sys.stdout)


if __name__ == "__main__":
    main()
