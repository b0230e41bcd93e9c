"""A provider's life, from a start that may fail to a stop that costs no call."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import pytest
from fake_registry import FakeRegistry, Refusal, until

from free_ports import free_port
from townhall.client import provider as provider_module
from townhall.client.address import AddressChoice
from townhall.client.alarms import Alarm, AlarmKind
from townhall.client.provider import Provider, Service
from townhall.model import limits
from townhall.model.errors import InvalidField, Unauthenticated, Unreachable

KEY = ("default", "default", "user")
ID = "user-127.0.0.1-8080"


def test_it_registers_and_leaves() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            options = {"tags": ["a"], "metadata": {"k": "v"}, "zone": "b", "weight": 2.0, "ttl": 0.6}
            async with Provider(fake.url, service="user", port=8080, **options) as provider:  # type: ignore[arg-type]
                found = fake.instances[KEY][ID]
                assert (found["tags"], found["metadata"], found["zone"], found["weight"]) == (
                    ["a"],
                    {"k": "v"},
                    "b",
                    2.0,
                )
                assert found["address"] == "127.0.0.1", "loopback, because the registry is on loopback"
                assert fake.leases == {provider.lease: 600}
                assert provider.instances[0].instance.id == ID
                await until(lambda: provider.connected)
                assert not provider.away
                assert not provider.stopping
            assert not fake.instances[KEY]
            assert fake.broken_sessions == 0
            assert provider.stopping
            await provider.stop()
            await provider.wait_stopped()
            with pytest.raises(InvalidField):
                await provider.start()

    asyncio.run(main())


def test_a_start_that_fails_is_an_error() -> None:
    async def main() -> None:
        with pytest.raises(Unreachable):
            await Provider(f"http://127.0.0.1:{free_port()}", service="user", port=1).start()
        async with FakeRegistry() as fake:
            with pytest.raises(InvalidField):
                async with Provider(fake.url, service="user", port=99_999):
                    pass
            fake.faults.refuse = lambda asked: Refusal(401, "unauthenticated")
            with pytest.raises(Unauthenticated):
                async with Provider(fake.url, service="user", port=1, token="t"):
                    pass
            assert fake.asked[-1].headers["x-townhall-token"] == "t"
            assert not any(fake.instances.values())

    asyncio.run(main())


def test_a_patient_start_registers_when_the_registry_is_there() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            await fake.stop()
            alarms: list[AlarmKind] = []
            provider = Provider(
                fake.url,
                service="user",
                port=1,
                id=ID,
                start_without_registry=True,
                on_alarm=lambda alarm: alarms.append(alarm.kind),
            )
            async with provider:
                assert provider.instances == ()
                await until(lambda: provider.away)
                await fake.start()
                await until(lambda: provider.connected and not provider.away)
                assert provider.instances[0].instance.id == ID
                assert alarms == [AlarmKind.AWAY, AlarmKind.BACK]
                assert provider.counters.registrations == 1
            assert not fake.instances[KEY]
            fake.faults.refuse = lambda asked: Refusal(401, "unauthenticated")
            with pytest.raises(Unauthenticated):
                await Provider(fake.url, service="user", port=1, start_without_registry=True).start()

    asyncio.run(main())


def test_a_patient_start_that_never_succeeds_can_be_stopped() -> None:
    async def main() -> None:
        url = f"http://127.0.0.1:{free_port()}"
        async with Provider(url, service="user", port=1, drain_on_stop=True, start_without_registry=True) as provider:
            await until(lambda: provider.away)
        assert provider.stopping

    asyncio.run(main())


def test_what_must_be_given() -> None:
    for options in ({}, {"service": "a", "services": [Service(name="b")]}):
        with pytest.raises(InvalidField):
            Provider("http://127.0.0.1:1", **options)  # type: ignore[arg-type]

    async def main() -> None:
        provider = Provider("http://127.0.0.1:1", service="a", port=1)
        with pytest.raises(InvalidField):
            await provider.drain()
        await provider.stop()
        assert provider.instances == ()
        assert provider.lease == ""

    asyncio.run(main())


def test_several_services_share_everything() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            services = [Service(name="user", port=1), Service(name="admin", port=2, address="::1")]
            async with Provider(fake.url, services=services, ttl=6.0) as provider:
                assert len(provider.instances) == 2
                assert len(fake.leases) == 1
                assert fake.instances["default", "default", "admin"]["admin-::1-2"]["address"] == "::1"
                await until(lambda: provider.connected)
                assert len(fake.sessions) == 1
                await provider.update("admin", weight=5.0)
                await provider.update(zone="z")
                assert [one.instance.weight for one in provider.instances] == [1.0, 5.0]
                assert [one.instance.zone for one in provider.instances] == ["z", "z"]
                with pytest.raises(InvalidField):
                    await provider.update("nobody", weight=1.0)
            assert not any(fake.instances.values())

    asyncio.run(main())


def test_the_application_hears_of_alarms_and_may_fail() -> None:
    async def main() -> None:
        heard: list[Alarm] = []
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context["exception"]))

        def on_alarm(alarm: Alarm) -> None:
            heard.append(alarm)
            raise ValueError("the application's own mistake")

        async with FakeRegistry() as fake:
            async with Provider(fake.url, service="user", port=8080, ttl=1.5, on_alarm=on_alarm) as provider:
                await fake.stop()
                await until(lambda: provider.away and heard)
                await fake.start()
                await until(lambda: not provider.away and provider.connected)
                await until(lambda: len(heard) == 2)
            assert [alarm.kind for alarm in heard] == [AlarmKind.AWAY, AlarmKind.BACK]
            assert len(errors) == 2
            assert provider.counters.alarms == 2

    asyncio.run(main())


def test_stopping_waits_for_running_requests() -> None:
    async def main() -> None:
        order: list[str] = []
        async with FakeRegistry() as fake:

            async def on_stop() -> None:
                assert not fake.instances[KEY], "nobody finds us any more"
                order.append("on_stop")

            provider = Provider(fake.url, service="user", port=8080, on_stop=on_stop, drain_deadline=20)
            await provider.start()

            async def request() -> None:
                with provider.track():
                    await until(lambda: "on_stop" in order)
                    await asyncio.sleep(0.05)
                    order.append("answered")

            running = asyncio.get_running_loop().create_task(request())
            await until(lambda: provider.running == 1)
            await provider.stop()
            assert order == ["on_stop", "answered"]
            assert provider.running == 0
            await running

    asyncio.run(main())


def test_stopping_leaves_at_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:

            async def on_stop() -> None:
                await asyncio.Event().wait()

            provider = Provider(fake.url, service="user", port=8080, on_stop=on_stop, drain_deadline=0.2)
            await provider.start()
            with provider.track():
                async with asyncio.timeout(10):
                    await provider.stop()
            assert not fake.instances[KEY]

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "still running at the deadline" in caplog.text
    assert "on_stop was not done" in caplog.text


def test_a_failing_on_stop_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        def on_stop() -> None:
            raise ValueError("the application's own mistake")

        async with FakeRegistry() as fake, Provider(fake.url, service="user", port=8080, on_stop=on_stop):
            pass

    asyncio.run(main())
    assert "on_stop failed" in caplog.text


def test_leaving_without_a_registry_is_quick_and_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_module, "_LEAVE_BUDGET_S", 0.2)

    async def main() -> None:
        async with asyncio.timeout(120), FakeRegistry() as fake:
            async with Provider(fake.url, service="user", port=8080):
                fake.faults.delay_s = 60
            assert fake.instances[KEY], "it could not say goodbye"

    asyncio.run(main())


def test_draining_waits_for_every_subscriber() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Provider(fake.url, service="user", port=8080) as provider:
            assert await provider.drain(deadline=0.1) is False, "nobody has acknowledged"
            task = asyncio.get_running_loop().create_task(provider.drain(deadline=20))
            posted = lambda: sum(asked.path.endswith("/drain") and asked.method == "POST" for asked in fake.asked)  # noqa: E731
            await until(lambda: posted() == 2 and fake.asked[-1].method == "GET")
            assert fake.instances[KEY][ID]["verdict"] == "draining"
            assert not task.done()
            fake.acknowledged.append({"user": fake.position})
            assert await task is True

    asyncio.run(main())


def test_calls_on_their_way_are_waited_for_after_a_drain() -> None:
    async def main() -> None:
        log: list[str] = []
        async with FakeRegistry(acknowledged=[{"user": 1_000_000}]) as fake:
            provider = Provider(
                fake.url,
                service="user",
                port=8080,
                drain_on_stop=True,
                linger=0.05,
                on_leave=lambda: log.append(fake.instances[KEY][ID]["verdict"]),
                on_stop=lambda: log.append(fake.instances[KEY][ID]["verdict"]),
            )
            async with provider:
                begun = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - begun >= 0.05
            assert log == ["up", "draining"]
            assert limits.CLIENT_LINGER_MS / 1000 < provider_module._DRAIN_DEADLINE_S

    asyncio.run(main())


def test_one_heartbeat_keeps_all_services_of_a_process() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            services = [Service(name=f"s{number}", port=8080) for number in range(50)]
            async with Provider(fake.url, services=services, ttl=2.4) as provider:
                await until(lambda: provider.counters.renewals >= 2 and provider.connected)
                assert sum(len(one) for one in fake.instances.values()) == 50
                assert list(fake.leases) == [provider.lease], "one lease for all of them"
                told = [line["hello"]["leases"] for line in fake.session_lines if "hello" in line]
                assert told == [[provider.lease]], "one session, which renews it with one line"
                asked = [one.path for one in fake.asked if one.path.endswith(("/renew", "/session"))]
                assert len(asked) <= 1 + provider.counters.renewals, "nothing is sent for each service"
            assert not any(fake.instances.values())

    asyncio.run(main())


def test_drain_on_stop_comes_first() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            fake.acknowledged.append({"user": 10**9})
            async with Provider(fake.url, service="user", port=8080, drain_on_stop=True, drain_deadline=5):
                pass
            paths = [asked.path for asked in fake.asked]
            drained = max(n for n, path in enumerate(paths) if path.endswith("/drain"))
            assert drained < paths.index("/deregister")

    asyncio.run(main())


def test_with_a_drain_the_application_ends_before_we_deregister() -> None:
    async def main() -> None:
        order: list[str] = []
        async with FakeRegistry() as fake:
            fake.acknowledged.append({"user": 10**9})

            def on_stop() -> None:
                order.append("on_stop")
                assert fake.instances[KEY][ID]["verdict"] == "draining", "who still comes is answered"

            provider = Provider(
                fake.url, service="user", port=8080, drain_on_stop=True, drain_deadline=30, on_stop=on_stop
            )
            await provider.start()
            running = provider.track()
            with running:
                stopping = asyncio.create_task(provider.stop())
                await until(lambda: order)
                assert fake.instances[KEY][ID], "a request still runs"
            await stopping
            assert not fake.instances[KEY]

    asyncio.run(main())


def test_the_address_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_module.limits, "CLIENT_ADDRESS_INTERVAL_MS", 5)
    assert limits.CLIENT_ADDRESS_INTERVAL_MS == 5
    found = ["127.0.0.1"]

    async def find(choice: AddressChoice, towards: object) -> str:
        return found[-1]

    monkeypatch.setattr(AddressChoice, "find", find)

    async def main() -> None:
        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            Provider(fake.url, service="user", port=8080) as provider,
        ):
            await until(lambda: provider.connected)
            found.append("127.9.0.7")
            await until(lambda: list(fake.instances[KEY]) == ["user-127.9.0.7-8080"])
            assert provider.instances[0].instance.address == "127.9.0.7"
            assert len(fake.leases) == 1 or provider.lease in fake.leases

    asyncio.run(main())


def test_a_warm_up_is_told_to_callers() -> None:
    async def main() -> None:
        async with (
            FakeRegistry() as fake,
            Provider(fake.url, service="user", port=8080, warm_up=30, metadata={"a": "b"}),
        ):
            assert fake.instances[KEY][ID]["metadata"] == {"a": "b", "warmup_s": "30"}

    asyncio.run(main())


@pytest.mark.skipif(os.name == "nt", reason="no signals to oneself")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_gives_the_signals_back(number: signal.Signals) -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            before = signal.getsignal(number)
            provider = Provider(fake.url, service="user", port=8080, handle_signals=True)
            await provider.start()
            assert signal.getsignal(number) != before
            os.kill(os.getpid(), number)
            async with asyncio.timeout(120):
                await provider.wait_stopped()
            assert not fake.instances[KEY]
            assert signal.getsignal(number) == before

    asyncio.run(main())


def test_heartbeats_begin_anew_after_a_bug(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(provider_module, "_REVIVAL_PAUSE_S", 0.01)

    async def main() -> None:
        async with FakeRegistry() as fake, Provider(fake.url, service="user", port=8080, ttl=0.3) as provider:
            assert provider._heartbeat is not None
            await until(lambda: provider.connected)

            async def broken() -> None:
                raise RuntimeError("a bug")

            monkeypatch.setattr(provider._heartbeat, "_once", broken)
            await until(lambda: "a bug" in caplog.text)
            monkeypatch.undo()
            renewals = provider.counters.renewals
            await until(lambda: provider.counters.renewals > renewals)

    asyncio.run(main())
