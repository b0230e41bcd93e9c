"""The registry fails, or the way to it: nobody's calls depend on it. One test for each row of ``docs/failures.md``."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

import townhall
from chaos.stage import CLOCK, SERVICE, Chaos, Relay, Scene
from townhall.client.consumer import MirrorState
from townhall_process import SOURCE


def test_provider_loses_the_registry(chaos: Chaos) -> None:
    """Only its way to the registry is cut: it is taken out after its TTL, serves on, and comes back by itself."""

    async def play() -> None:
        registry = chaos.registry()
        async with Relay(registry.port) as relay:
            (first,) = await chaos.providers(relay.url, "a")
            await chaos.providers(registry.url, "b")
            async with chaos.load(registry.url, instances=2) as scene:
                for cut in (relay.hold, relay.reset):
                    alarms = len(first.alarms)
                    scene.happens()
                    cut()
                    await scene.seen("detected", lambda: scene.callable("b"))
                    await scene.seen("alarmed", lambda n=alarms: first.alarms[n:] == ["away"])
                    await scene.seen("evicted", lambda: scene.verdict("a") == "gone")
                    await scene.more()
                    scene.happens()
                    relay.heal()
                    await scene.seen("recovered", lambda: scene.callable("a", "b"))
                    await scene.seen("told", lambda n=alarms: "back" in first.alarms[n:])
            scene.nothing_lost()

    chaos.run(play())


def test_provider_starts_without_the_registry(chaos: Chaos) -> None:
    """It says so and does not start; or, told to be patient, it serves and is found when the registry is there."""

    async def play() -> None:
        registry = chaos.registry()
        registry.kill()
        provider = chaos.begin_provider(registry.url, "a")
        failed = await asyncio.to_thread(provider.line, "failed")
        assert failed["failed"] == "Unreachable"
        assert registry.address in failed["message"]
        assert provider.wait() == 1
        patient = chaos.begin_provider(registry.url, "a", "--patient")
        await asyncio.to_thread(patient.line, "waits")
        await asyncio.to_thread(registry.restart)
        async with chaos.load(registry.url, instances=1) as scene:
            await scene.seen("told", lambda: patient.alarms == ["away", "back"])
        scene.nothing_lost()

    chaos.run(play())


def test_consumer_starts_without_the_registry(chaos: Chaos) -> None:
    """With a snapshot on disk it calls at once; without one it says why it cannot."""

    async def play() -> None:
        registry = chaos.registry()
        await chaos.providers(registry.url, "a", "b")
        async with chaos.load(registry.url, instances=2) as scene:
            # The snapshot is written at most once a second.
            await scene.seen("saved", lambda: any((chaos.data / "cache").rglob("*.json")))
        registry.kill()
        async with townhall.Consumer(registry.url, snapshot_directory=None, start_timeout=1.0) as blind:
            with pytest.raises(townhall.NoInstance) as caught:
                await blind[SERVICE].get("/")
            assert caught.value.fields["why"] == "registry_unreachable"
        async with chaos.load(registry.url, instances=2, start_timeout=1.0) as scene:
            assert scene.handle.stale
            scene.happens()
            await asyncio.to_thread(registry.restart)
            await scene.seen("recovered", lambda: scene.consumer.state is MirrorState.CONNECTED)
            assert not scene.handle.stale
        scene.nothing_lost()

    chaos.run(play())


def test_consumer_loses_the_registry(chaos: Chaos) -> None:
    """It goes on with what it knows, and learns of what happened meanwhile when it is back."""

    async def play() -> None:
        registry = chaos.registry()
        first, _ = await chaos.providers(registry.url, "a", "b")
        async with Relay(registry.port) as relay:
            async with chaos.load(relay.url, instances=2) as scene:
                connected = lambda: scene.consumer.state is MirrorState.CONNECTED  # noqa: E731
                await scene.seen("connected", connected)
                for cut in (relay.hold, relay.reset):
                    scene.happens()
                    cut()
                    if cut == relay.reset or chaos.pace.long:
                        # Silence is noticed after 45 s, a reset at once; either way the calls go on meanwhile.
                        await scene.seen("detected", lambda: not connected())
                    first.kill()
                    await scene.more()
                    scene.happens()
                    relay.heal()
                    await scene.seen("recovered", lambda: connected() and scene.callable("b"))
                    (first,) = await chaos.providers(registry.url, "a")
                    await scene.seen("whole", lambda: scene.callable("a", "b"))
            scene.nothing_lost()

    chaos.run(play())


def test_registry_restarts_full(chaos: Chaos) -> None:
    async def play() -> None:
        registry = chaos.registry()
        providers = await chaos.providers(registry.url, "a", "b", options=chaos.steady)
        async with chaos.load(registry.url, instances=2) as scene:
            before = {one.id: one.incarnation for one in scene.handle.instances()}
            scene.happens()
            await asyncio.to_thread(registry.kill)
            await scene.seen("detected", lambda: scene.consumer.state is not MirrorState.CONNECTED)
            await scene.seen("alarmed", lambda: all("away" in one.alarms for one in providers))
            await scene.more()
            scene.happens()
            await asyncio.to_thread(registry.restart)
            await scene.seen("recovered", lambda: scene.consumer.state is MirrorState.CONNECTED)
            await scene.seen("told", lambda: all(one.alarms == ["away", "back"] for one in providers))
            assert {one.id: one.incarnation for one in scene.handle.instances()} == before, "the same registrations"
        scene.nothing_lost()

    chaos.run(play())


def test_registry_restarts_empty(chaos: Chaos) -> None:
    """It has lost everything: consumers keep what they know until the providers have registered again."""

    async def play() -> None:
        registry = chaos.registry(keeps=False)
        async with Relay(registry.port) as relay:
            providers = await chaos.providers(relay.url, "a", "b")
            async with chaos.load(registry.url, instances=2) as scene:
                scene.happens()
                relay.hold()
                await asyncio.to_thread(registry.kill)
                await scene.seen("detected", lambda: scene.consumer.state is not MirrorState.CONNECTED)
                await scene.more()
                await asyncio.to_thread(registry.restart)
                # The worst order: the consumer is back first, and sees a registry that knows nobody.
                await scene.seen("back", lambda: scene.consumer.state is MirrorState.CONNECTED)
                await scene.more()
                scene.happens()
                relay.reset()
                relay.heal()
                await scene.seen("recovered", lambda: all("registered_again" in one.alarms for one in providers))
                await scene.more()
                # A heartbeat that came late on a busy machine is made good by the next one.
                await scene.seen("all there", lambda: scene.callable("a", "b"))
            async with townhall.Registry(registry.url) as api:
                listed = await api.instances(SERVICE)
                assert {one.id for one in listed.instances} == {"a", "b"}
        scene.nothing_lost()

    chaos.run(play())


def test_consumer_starts_before_an_empty_registry(chaos: Chaos) -> None:
    """It begins with what is on disk, and goes on with it when a registry comes that has lost everything."""

    async def play() -> None:
        registry = chaos.registry(keeps=False)
        async with Relay(registry.port) as relay:
            providers = await chaos.providers(relay.url, "a", "b")
            async with chaos.load(registry.url, instances=2) as scene:
                await scene.seen("saved", lambda: _saved_under_a_name(chaos))
            relay.hold()
            await asyncio.to_thread(registry.kill)
            async with chaos.load(registry.url, instances=2, start_timeout=1.0) as scene:
                assert scene.handle.stale
                scene.happens()
                await asyncio.to_thread(registry.restart)
                await scene.seen("back", lambda: scene.consumer.state is MirrorState.CONNECTED)
                await scene.more()
                assert scene.callable("a", "b"), "though nobody has registered yet"
                scene.happens()
                relay.reset()
                relay.heal()
                await scene.seen("recovered", lambda: all("registered_again" in one.alarms for one in providers))
                await scene.more()
                assert scene.callable("a", "b")
        scene.nothing_lost()

    chaos.run(play())


def test_registry_hangs(chaos: Chaos) -> None:
    """SIGSTOP for longer than every TTL: its own pause is nobody's death."""

    async def play() -> None:
        registry = chaos.registry()
        providers = await chaos.providers(registry.url, "a", "b", options=chaos.steady)
        async with chaos.load(registry.url, instances=2) as scene:
            verdicts: set[str] = set()
            scene.handle.on_change(lambda change: verdicts.update(one.verdict for one in change.picture.instances))
            scene.happens()
            registry.signal(signal.SIGSTOP)
            await scene.seen("detected", lambda: all("away" in one.alarms for one in providers))
            await asyncio.sleep(chaos.pace.steady_s)
            await scene.more()
            scene.happens()
            registry.signal(signal.SIGCONT)
            await scene.seen("recovered", lambda: all(one.alarms == ["away", "back"] for one in providers))
            await scene.seen("whole", lambda: scene.callable("a", "b"))
            assert not verdicts & {"down"}, verdicts
            assert all("registered_again" not in one.alarms for one in providers)
        scene.nothing_lost()

    chaos.run(play())


def test_clock_jumps(chaos: Chaos) -> None:
    """The wall clocks of registry and providers are set a day on, then back by two: nobody lapses, nothing runs back."""
    off = chaos.data / "clock"
    off.write_text("0")
    env = {"PYTHONPATH": os.pathsep.join([str(CLOCK), str(SOURCE)]), "CHAOS_CLOCK": str(off)}

    async def play() -> None:
        registry = chaos.registry(env=env)
        providers = [chaos.begin_provider(registry.url, name, *chaos.steady, env=env) for name in "ab"]
        for one in providers:
            await asyncio.to_thread(one.line, "registered")
        async with chaos.load(registry.url, instances=2) as scene, townhall.Registry(registry.url) as api:
            verdicts: set[str] = set()
            scene.handle.on_change(lambda change: verdicts.update(one.verdict for one in change.picture.instances))
            for offset in ("90000", "-90000", "0"):
                scene.happens()
                off.write_text(offset)
                before = (await api.instances(SERVICE)).instances
                # Renewals under the new time, then a change that is stamped with it.
                await asyncio.sleep(chaos.pace.steady_s / 2)
                await api.patch(SERVICE, "a", metadata={"clock": offset})
                await scene.seen("recovered", lambda o=offset: _metadata(scene, "a") == o)
                after = (await api.instances(SERVICE)).instances
                assert [one.incarnation for one in before] == [one.incarnation for one in after]
                assert {one.verdict for one in after} == {"up"}
            assert verdicts == {"up"}, verdicts
            assert [one.alarms for one in providers] == [[], []]
        scene.nothing_lost()

    chaos.run(play())


def _saved_under_a_name(chaos: Chaos) -> bool:
    """Whether both consumers' snapshots, the SDK's and the gateway's, say which journal they belong to."""
    files = list(chaos.data.rglob(f"{SERVICE}.json"))
    return len(files) == 2 and all(json.loads(file.read_bytes())["history"] for file in files)


def _metadata(scene: Scene, name: str) -> str:
    known = scene.known(name)
    return "" if known is None else str(known.metadata.get("clock", ""))
