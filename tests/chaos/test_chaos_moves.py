"""Providers move and come in crowds. One test for each row of ``docs/failures.md``."""

from __future__ import annotations

import asyncio
import signal

from chaos.stage import Chaos
from townhall.client.consumer import MirrorState


def test_address_changes(chaos: Chaos) -> None:
    """A provider's machine gets another address: the old one is dead at once, the new one is found by itself."""

    async def play() -> None:
        registry = chaos.registry()
        await chaos.providers(registry.url, "b")
        (first,) = await chaos.providers(registry.url, "a", options=("--follow", "--host", "127.9.0.1"))
        async with chaos.load(registry.url, instances=2) as scene:
            for address in ("127.9.0.2", "127.9.0.3"):
                before = scene.known("a").incarnation
                scene.happens()
                first.tell(f"address {address}")
                await scene.seen("recovered", lambda a=address: scene.known("a").address == a)
                assert scene.known("a").incarnation == before, "it moved, it did not begin anew"
                await scene.more()
            answers = scene.calls.answers["a"]
            # The failed calls have left it out for a while.
            await scene.seen("called again", lambda: scene.calls.answers["a"] > answers)
        scene.nothing_lost()

    chaos.run(play())


def test_rolling_restart(chaos: Chaos) -> None:
    """Every provider is stopped with SIGTERM and started again, one after the other: not even a retry is needed."""

    async def play() -> None:
        registry = chaos.registry()
        names = ("a", "b", "c")
        running = dict(zip(names, await chaos.providers(registry.url, *names), strict=True))
        async with chaos.load(registry.url, instances=3) as scene:
            scene.happens()
            for name in names:
                running[name].signal(signal.SIGTERM)
                assert await asyncio.to_thread(running[name].wait) == 0
                await chaos.providers(registry.url, name)
                await scene.seen("recovered", lambda: scene.callable(*names))
        scene.nothing_lost()
        assert scene.calls.broken == 0, "an attempt failed"

    chaos.run(play())


def test_mass_restart(chaos: Chaos) -> None:
    """Everything is killed at once, registry and providers, and started at once: calls work with the first that is up."""

    async def play() -> None:
        registry = chaos.registry()
        names = [f"p{number}" for number in range(12 if chaos.pace.long else 4)]
        running = await chaos.providers(registry.url, *names)
        async with chaos.load(registry.url, instances=len(names)) as scene:
            scene.happens()
            for one in running:
                one.kill()
            await asyncio.to_thread(registry.kill)
            await scene.seen("detected", lambda: scene.consumer.state is not MirrorState.CONNECTED)
            scene.happens()
            for name in names:
                chaos.begin_provider(registry.url, name, "--patient")
            await asyncio.to_thread(registry.restart)
            await scene.seen("recovered", lambda: scene.callable(*names))
            # A call that began before may still end badly.
            await scene.more()
            lost = scene.calls.lost, scene.through.lost
            await scene.more()
            assert (scene.calls.lost, scene.through.lost) == lost, "no call is lost once they are back"

    chaos.run(play())
