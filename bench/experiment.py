"""The published experiment with real calls: eleven backends, a constant rate, one of them slow for half of the time.

    python -m bench.experiment --balancer peak_ewma --ports 8001,8002,… --rate 1000 --seconds 60

Calls begin when they are due, whatever became of the others (an open loop); each is one ``get`` of the SDK without
retries, and its time counts from the moment at which it was due, so that a generator that lags is not flattering.
Prints one JSON object. ``lag_ms`` is how late the generator itself was: when that is not small, the figures are not good.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from random import Random
from typing import Any

import townhall
from bench.load import quantiles
from townhall.client.handle import ServiceHandle
from townhall.model.errors import TownhallError

SLOW_MS = 2_000
GOOD_S = 1.0


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Warm up for a moment, then call at the rate."""
    addresses = [f"127.0.0.1:{port}" for port in options.ports.split(",")]
    async with townhall.Consumer(
        "http://127.0.0.1:1", balancer=options.balancer, snapshot_directory=None, rng=Random(options.seed)
    ) as consumer:
        slow = consumer[f"static://{addresses[0]}"]
        service = consumer["static://" + ",".join(addresses)]
        await service.start()
        await run(service, options.rate, min(2.0, options.seconds))
        begun_cpu = time.process_time()
        loop = asyncio.get_running_loop()
        begin, end = options.seconds / 4, options.seconds * 3 / 4
        switches = [
            loop.call_later(
                at, lambda ms=ms: marks.append(asyncio.create_task(slow.get(f"/slow?{ms}", timeout=30.0, retries=0)))
            )  # type: ignore[misc]
            for at, ms in ((begin, SLOW_MS), (end, 0))
        ]
        marks: list[asyncio.Task[Any]] = []
        took, lags, failed = await run(service, options.rate, options.seconds)
        for switch in switches:
            switch.cancel()
        await asyncio.gather(*marks)
        good = sum(one <= GOOD_S for one in took)
        return {
            "calls": len(took), "success": good / len(took), "failed": failed, "latency_ms": quantiles(took),
            "lag_ms": quantiles(lags), "generator_cpu": (time.process_time() - begun_cpu) / options.seconds,
        }  # fmt: skip


async def run(service: ServiceHandle, rate: int, seconds: float) -> tuple[list[float], list[float], int]:
    """(seconds of each call from when it was due, how late each began, how many failed)."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    lags: list[float] = []
    failed = 0

    async def call(due: float) -> None:
        nonlocal failed
        lags.append(loop.time() - due)
        try:
            await service.get("/", retries=0, timeout=10.0)
            took.append(loop.time() - due)
        except TownhallError:
            failed += 1
            took.append(float("inf"))

    begun = loop.time()
    running: set[asyncio.Task[None]] = set()
    count = round(rate * seconds)
    number = 0
    while number < count:
        now = loop.time() - begun
        while number < count and number / rate <= now:
            task = asyncio.create_task(call(begun + number / rate))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
        await asyncio.sleep(max(0.0, begun + number / rate - loop.time()))
    if running:
        await asyncio.wait(running)
    return took, lags, failed


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--balancer", required=True)
    parser.add_argument("--ports", required=True)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    json.dump(asyncio.run(measure(parser.parse_args())), sys.stdout)


if __name__ == "__main__":
    main()
