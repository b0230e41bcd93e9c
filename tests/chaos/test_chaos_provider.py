"""Providers fail: what callers, consumers and the registry see. One test for each row of ``docs/failures.md``."""

from __future__ import annotations

import asyncio
import signal

from chaos.stage import Chaos, Relay


def test_provider_crashes(chaos: Chaos) -> None:
    async def play() -> None:
        registry = chaos.registry()
        first, _ = await chaos.providers(registry.url, "a", "b")
        async with chaos.load(registry.url, instances=2) as scene:
            scene.happens()
            first.kill()
            # Long before its TTL: the broken session tells.
            await scene.seen("detected", lambda: scene.callable("b"))
            await scene.more()
            scene.happens()
            await chaos.providers(registry.url, "a")
            await scene.seen("recovered", lambda: scene.callable("a", "b"))
        scene.nothing_lost()

    chaos.run(play())


def test_provider_hangs(chaos: Chaos) -> None:
    async def play() -> None:
        registry = chaos.registry()
        first, _ = await chaos.providers(registry.url, "a", "b")
        async with chaos.load(registry.url, instances=2) as scene:
            scene.happens()
            first.signal(signal.SIGSTOP)
            await scene.seen("detected", lambda: scene.callable("b"))
            await scene.more()
            scene.happens()
            first.signal(signal.SIGCONT)
            await scene.seen("recovered", lambda: scene.callable("a", "b"))
        scene.nothing_lost()

    chaos.run(play())


def test_provider_is_slow(chaos: Chaos) -> None:
    """It answers and renews, only late: nobody fails, and whoever balances by latency leaves it alone."""

    async def play() -> None:
        registry = chaos.registry()
        first, _ = await chaos.providers(registry.url, "a", "b", options=chaos.steady)
        async with chaos.load(registry.url, instances=2, balancer="peak_ewma") as scene:
            # Far below what callers allow an attempt, far above what the other one takes.
            first.tell("work 0.15")
            await asyncio.to_thread(first.line, "done")
            scene.happens()
            before = dict(scene.calls.answers)
            await scene.more(10)
            answers = {name: count - before[name] for name, count in scene.calls.answers.items()}
            assert answers["a"] < answers["b"], answers
            # Slow is no failure: the registry takes nobody out for it.
            assert scene.callable("a", "b")
        scene.nothing_lost()

    chaos.run(play())


def test_provider_is_cut_off_from_its_callers(chaos: Chaos) -> None:
    """It renews, but nobody can call it: what callers report makes it SUSPECT for everybody."""

    async def play() -> None:
        registry = chaos.registry()
        async with Relay() as relay:
            (first,) = await chaos.providers(registry.url, "a", options=("--advertise", str(relay.port)))
            relay.target = ("127.0.0.1", first.port)
            await chaos.providers(registry.url, "b", "c")
            async with chaos.load(registry.url, instances=3) as scene:
                for cut in (relay.hold, relay.reset):
                    scene.happens()
                    cut()
                    await scene.seen("detected", lambda: scene.callable("b", "c"))
                    assert scene.verdict("a") == "suspect"
                    await scene.more()
                    scene.happens()
                    relay.heal()
                    await scene.seen("recovered", lambda: scene.callable("a", "b", "c"))
            scene.nothing_lost()

    chaos.run(play())
