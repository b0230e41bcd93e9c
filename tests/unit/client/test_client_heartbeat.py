"""Heartbeats go on, over the stream or without it, and tell what is out of the ordinary once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fake_registry import FakeRegistry, Refusal, until

from townhall.client.alarms import Alarm, AlarmKind
from townhall.client.api import Registry
from townhall.client.definitions import Service
from townhall.client.heartbeat import Heartbeat
from townhall.client.registrar import Registrar

KEY = ("default", "default", "user")
Scene = Callable[[FakeRegistry, Heartbeat, list[Alarm]], Awaitable[None]]


def play(scene: Scene, *, ttl_ms: int = 300) -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            registrar = Registrar(registry, [Service(name="user", port=1)], address="127.0.0.1", ttl_ms=ttl_ms)
            await registrar.register()
            alarms: list[Alarm] = []
            heartbeat = Heartbeat(registry, registrar, "me", alarms.append)
            task = asyncio.get_running_loop().create_task(heartbeat.run())
            try:
                async with asyncio.timeout(120):
                    await scene(fake, heartbeat, alarms)
                assert not task.done()
            finally:
                task.cancel()
                await asyncio.wait({task})

    asyncio.run(main())


def kinds(alarms: list[Alarm]) -> list[AlarmKind]:
    return [alarm.kind for alarm in alarms]


def renewals(fake: FakeRegistry) -> int:
    return sum("renew" in line for line in fake.session_lines)


def requests(fake: FakeRegistry, path: str) -> int:
    return sum(asked.path == path for asked in fake.asked)


def test_renewals_go_over_the_session() -> None:
    async def scene(fake: FakeRegistry, heartbeat: Heartbeat, alarms: list[Alarm]) -> None:
        await until(lambda: heartbeat.connected)
        await until(lambda: heartbeat.counters.renewals >= 3 and renewals(fake) >= 2)
        before = requests(fake, "/renew")
        await until(lambda: renewals(fake) >= 5)
        assert requests(fake, "/renew") == before
        assert fake.session_lines[0]["hello"]["name"] == "me"
        assert not alarms
        await heartbeat.bye(budget_s=5)
        await until(lambda: {"bye": True} in fake.session_lines)
        assert fake.broken_sessions == 0

    play(scene, ttl_ms=900)


def test_without_a_session_they_are_requests() -> None:
    async def scene(fake: FakeRegistry, heartbeat: Heartbeat, alarms: list[Alarm]) -> None:
        fake.faults.refuse = lambda asked: Refusal(405, "misuse") if asked.path == "/session" else None
        fake.break_streams()
        before = requests(fake, "/renew")
        await until(lambda: requests(fake, "/renew") >= before + 3)
        assert not heartbeat.connected
        assert heartbeat.counters.renewals_failed == 0
        assert not alarms

    play(scene, ttl_ms=900)


def test_a_session_that_does_not_answer_is_given_up() -> None:
    async def scene(fake: FakeRegistry, heartbeat: Heartbeat, alarms: list[Alarm]) -> None:
        fake.faults.silent_session = True
        await until(lambda: requests(fake, "/renew") >= 2 and heartbeat.counters.sessions >= 2)
        assert heartbeat.counters.renewals_failed == 0
        assert not alarms

    play(scene)


def test_forgotten_means_registered_again() -> None:
    async def scene(fake: FakeRegistry, heartbeat: Heartbeat, alarms: list[Alarm]) -> None:
        await until(lambda: heartbeat.connected)
        for expected in (1, 2):
            await fake.forget_leases()
            assert not fake.instances[KEY]
            await until(lambda expected=expected: heartbeat.counters.registrations == expected and fake.instances[KEY])  # type: ignore[misc]
        assert set(kinds(alarms)) == {AlarmKind.REGISTERED_AGAIN}
        await until(lambda: any("attach" in line for line in fake.session_lines))

    play(scene, ttl_ms=3_000)


def test_forgotten_without_a_session_is_noticed_by_the_next_renewal() -> None:
    async def scene(fake: FakeRegistry, heartbeat: Heartbeat, alarms: list[Alarm]) -> None:
        fake.faults.refuse = lambda asked: Refusal(405, "misuse") if asked.path == "/session" else None
        fake.break_streams()
        fake.leases.clear()
        await fake.remove(KEY, "user-127.0.0.1-1")
        await until(lambda: fake.instances[KEY] and alarms)
        assert kinds(alarms) == [AlarmKind.REGISTERED_AGAIN]

    play(scene)


@pytest.mark.parametrize("memory", [True, False])
def test_away_and_back(memory: bool) -> None:
    async def scene(fake: FakeRegistry, heartbeat: Heartbeat, alarms: list[Alarm]) -> None:
        await until(lambda: heartbeat.connected)
        await fake.stop()
        await until(lambda: heartbeat.away)
        failed = heartbeat.counters.renewals_failed
        await until(lambda: heartbeat.counters.renewals_failed >= failed + 3)
        assert kinds(alarms) == [AlarmKind.AWAY], "told once"
        assert alarms[0].error is not None
        if not memory:
            await fake.forget_everything()
        await fake.start()
        await until(lambda: heartbeat.connected and not heartbeat.away and fake.instances.get(KEY))
        expected = (
            [AlarmKind.AWAY, AlarmKind.BACK] if memory else [AlarmKind.AWAY, AlarmKind.REGISTERED_AGAIN, AlarmKind.BACK]
        )
        assert kinds(alarms) == expected

    play(scene)


def test_a_hanging_registry_does_not_stop_the_heartbeats() -> None:
    async def scene(fake: FakeRegistry, heartbeat: Heartbeat, alarms: list[Alarm]) -> None:
        await until(lambda: heartbeat.connected)
        fake.faults.delay_s = 30
        fake.faults.silent_session = True
        await until(lambda: heartbeat.counters.renewals_failed >= 2)
        assert kinds(alarms) == [AlarmKind.AWAY]
        # The session's reconnect hangs now, for longer than this test; renewals go on as soon as requests are answered.
        fake.faults.delay_s = 0
        before = heartbeat.counters.renewals
        await until(lambda: heartbeat.counters.renewals >= before + 2)
        assert kinds(alarms) == [AlarmKind.AWAY, AlarmKind.BACK]

    play(scene)


def test_a_refusal_is_told_and_retried() -> None:
    async def scene(fake: FakeRegistry, heartbeat: Heartbeat, alarms: list[Alarm]) -> None:
        fake.faults.refuse = lambda asked: Refusal(401, "unauthenticated", "revoked")
        fake.break_streams()
        await until(lambda: heartbeat.counters.renewals_failed >= 3)
        assert kinds(alarms) == [AlarmKind.REFUSED]
        fake.faults.refuse = lambda asked: None
        await until(lambda: AlarmKind.BACK in kinds(alarms))

    play(scene)


def test_a_successor_is_told_and_watched() -> None:
    async def scene(fake: FakeRegistry, heartbeat: Heartbeat, alarms: list[Alarm]) -> None:
        await until(lambda: heartbeat.connected)
        fake.leases.clear()
        await fake.put("user", "user-127.0.0.1-1", claim="another", incarnation=99, port=7, lease="x")
        fake.break_streams()
        await until(lambda: kinds(alarms) == [AlarmKind.SUPERSEDED])
        await until(lambda: requests(fake, "/services/user/instances/user-127.0.0.1-1") >= 3)
        assert fake.instances[KEY]["user-127.0.0.1-1"]["port"] == 7
        await fake.remove(KEY, "user-127.0.0.1-1")
        await until(lambda: fake.instances[KEY])
        await until(lambda: kinds(alarms) == [AlarmKind.SUPERSEDED, AlarmKind.REGISTERED_AGAIN, AlarmKind.BACK])

    play(scene)


def test_news_from_the_registry() -> None:
    async def scene(fake: FakeRegistry, heartbeat: Heartbeat, alarms: list[Alarm]) -> None:
        await until(lambda: heartbeat.connected)
        for line in (b'{"drain":{"service":"user","id":"a","deadline":1}}\n', b'{"leaving":true}\n'):
            fake.sessions[0].write(b"%x\r\n%b\r\n" % (len(line), line))
        await until(lambda: heartbeat.counters.sessions == 2)
        assert kinds(alarms) == [AlarmKind.DRAIN_ASKED]

    play(scene)
