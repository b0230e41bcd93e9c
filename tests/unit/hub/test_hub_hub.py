"""The hub as a whole: what the contracts ``hub.Hub`` and ``core.live.Live`` promise."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator

import pytest
from running_hub import API, WEB, Running, register, running, until

from townhall.core import Rules
from townhall.core.access import resolve
from townhall.core.commands import BootstrapAccess, Deregister, GrantLease, SetConnection
from townhall.core.live import Live, Subscriber
from townhall.engine.memory import MemoryEngine
from townhall.hub import Hub as Contract
from townhall.hub.expiry import Expiry
from townhall.hub.hub import INTERNAL, Hub, HubOptions
from townhall.model import limits
from townhall.model.access import ANONYMOUS, Level, Policy, Resource, Rule, Token
from townhall.model.errors import NotFound, Unauthenticated
from townhall.model.instance import Verdict
from townhall.model.lease import LeaseKind

TTL = 1_000
OPTIONS = HubOptions(node="here", tick_ms=5)


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


async def lease_of(bench: Running, id_: str = "a", **fields: object) -> int:
    outcome = await bench.done(register(id_, ttl_ms=TTL, **fields))
    return int(outcome.result.lease)  # type: ignore[attr-defined]


async def pass_time(bench: Running, ms: int) -> None:
    """Let the hub's clock run, in steps that are no stall, with ticks in between."""
    for _ in range(ms // 100):
        bench.clock.advance(100)
        looked = bench.hub.expiry._looked_ms
        await until(lambda: bench.hub.expiry._looked_ms > looked)  # noqa: B023 - awaited before the next turn
        await until(lambda: bench.hub.writer.pending == 0)


def verdict(bench: Running, id_: str = "a") -> Verdict:
    return bench.hub.reader(INTERNAL).instance(WEB, id_).verdict


def test_it_keeps_both_contracts() -> None:
    async def body(bench: Running) -> None:
        hub: Contract = bench.hub
        live: Live = hub.live
        assert live.now_ms() == bench.clock.now_ms()
        assert live.status()["node"] == "here"

    running(body)


def test_a_silent_instance_becomes_suspect_then_goes() -> None:
    async def body(bench: Running) -> None:
        lease = await lease_of(bench)
        await pass_time(bench, TTL)
        assert verdict(bench) is Verdict.UP
        await pass_time(bench, 300)
        assert verdict(bench) is Verdict.SUSPECT
        await pass_time(bench, TTL + 600)
        with pytest.raises(NotFound):
            verdict(bench)
        assert bench.hub.renew([lease]) == [lease]

    running(body, options=OPTIONS)


def test_a_renewal_keeps_it_and_brings_it_back() -> None:
    async def body(bench: Running) -> None:
        lease = await lease_of(bench)
        for _ in range(5):
            await pass_time(bench, TTL // 2)
            assert bench.hub.renew([lease]) == []
        assert verdict(bench) is Verdict.UP
        await pass_time(bench, TTL + 300)
        assert verdict(bench) is Verdict.SUSPECT
        bench.hub.renew([lease])
        await until(lambda: verdict(bench) is Verdict.UP)
        assert bench.hub.deadline(lease) == bench.clock.now_ms() + TTL

    running(body, options=OPTIONS)


def test_registering_again_is_a_sign_of_life_even_when_it_changes_nothing() -> None:
    async def body(bench: Running) -> None:
        lease = await lease_of(bench)
        for _ in range(5):
            await pass_time(bench, TTL // 2)
            assert await lease_of(bench) == lease
        assert verdict(bench) is Verdict.UP
        assert bench.hub.state.position == 1

    running(body, options=OPTIONS)


def test_leases_of_keys_end_with_their_ttl() -> None:
    async def body(bench: Running) -> None:
        granted = await bench.done(GrantLease(ttl_ms=TTL, kind=LeaseKind.KEYS))
        lease = granted.result.id  # type: ignore[attr-defined]
        await pass_time(bench, TTL + 300)
        assert bench.hub.renew([lease]) == [lease]
        assert bench.hub.deadline(lease) is None

    running(body, options=OPTIONS)


def test_a_broken_connection_is_noticed_at_once_and_undone_by_a_renewal() -> None:
    async def body(bench: Running) -> None:
        lease = await lease_of(bench)
        await bench.done(SetConnection(leases=(lease,), up=False))
        assert verdict(bench) is Verdict.SUSPECT
        bench.hub.renew([lease])
        await until(lambda: verdict(bench) is Verdict.UP)

    running(body, options=OPTIONS)


def test_a_stall_of_the_registry_evicts_nobody() -> None:
    async def body(bench: Running) -> None:
        lease = await lease_of(bench)
        bench.clock.advance(60 * TTL)
        await until(lambda: bench.hub.expiry.stalls == 1)
        await asyncio.sleep(0.05)
        assert verdict(bench) is Verdict.UP
        deadline = bench.hub.deadline(lease)
        assert deadline is not None
        assert deadline > bench.clock.now_ms()

    running(body, options=OPTIONS)


def test_after_a_start_everybody_has_a_full_ttl() -> None:
    engine = MemoryEngine()
    leases: list[int] = []

    async def body(bench: Running) -> None:
        leases.append(await lease_of(bench))
        await pass_time(bench, TTL - 100)

    async def after(bench: Running) -> None:
        assert bench.hub.deadline(leases[0]) == bench.clock.now_ms() + TTL
        assert bench.hub.state.leases[leases[0]].epoch == 1

    running(body, engine, OPTIONS)
    running(after, engine, OPTIONS)


def test_a_node_under_a_new_name_takes_its_leases_over() -> None:
    engine = MemoryEngine()
    leases: list[int] = []

    async def body(bench: Running) -> None:
        leases.append(await lease_of(bench))

    async def after(bench: Running) -> None:
        lease = bench.hub.state.leases[leases[0]]
        assert (lease.owner, lease.epoch) == ("elsewhere", 2)
        assert bench.hub.deadline(leases[0]) is not None
        await pass_time(bench, TTL + 300)
        assert verdict(bench) is Verdict.SUSPECT

    running(body, engine, OPTIONS)
    running(after, engine, HubOptions(node="elsewhere", tick_ms=5))


def test_marks_of_callers_reports_are_taken_back_after_a_restart_too() -> None:
    engine = MemoryEngine()

    async def body(bench: Running) -> None:
        await bench.done(register(ttl_ms=limits.LEASE_TTL_MAX_MS))
        for reporter in ("x", "y"):
            assert bench.hub.report(reporter, (*WEB, "a"), "connect", 2)
        await until(lambda: verdict(bench) is Verdict.SUSPECT)
        assert not bench.hub.report("x", (*WEB, "nobody"), "connect", 1)

    async def after(bench: Running) -> None:
        assert verdict(bench) is Verdict.SUSPECT
        bench.clock.advance(limits.REPORT_HOLD_MS)
        await until(lambda: verdict(bench) is Verdict.UP)

    running(body, engine, OPTIONS)
    running(after, engine, OPTIONS)


def test_watchers_and_views_follow_commits() -> None:
    async def body(bench: Running) -> None:
        woken: list[int] = []
        bench.hub.watch([WEB], lambda: woken.append(bench.hub.state.position))
        view, other = bench.hub.view([WEB]), bench.hub.view([API])
        stale_when_answered: list[bool] = []
        bench.hub.submit(register(), INTERNAL, lambda _: stale_when_answered.append(not view.fresh))
        await until(lambda: bool(woken))
        assert stale_when_answered == [True]
        assert woken == [1]
        assert other.fresh

    running(body)


def test_subscribers_and_what_a_drain_waits_for() -> None:
    async def body(bench: Running) -> None:
        woken: list[int] = []
        bench.hub.watch([("drain", WEB)], lambda: woken.append(1))
        row = bench.hub.subscribe(Subscriber("s", "app", "127.0.0.1:9", "native", 1, explicit=True), [WEB])
        row.sent({WEB: 4})
        assert [(entry.sent, entry.acked) for entry in bench.hub.subscribers(*WEB)] == [(4, 0)]
        assert bench.hub.acknowledge("s", {WEB: 4})
        assert not bench.hub.acknowledge("nobody", {WEB: 4})
        await until(lambda: bool(woken))
        row.close()
        assert bench.hub.subscribers(*WEB) == []

    running(body)


def test_tokens_are_looked_up_in_the_state() -> None:
    async def body(bench: Running) -> None:
        assert not bench.hub.authenticate("", "127.0.0.1:1").restricted
        outcome = await bench.done(BootstrapAccess())
        _, secret = outcome.result  # type: ignore[misc]
        assert bench.hub.authenticate(secret, "127.0.0.1:1").management
        assert bench.hub.authenticate("", "127.0.0.1:1").restricted
        with pytest.raises(Unauthenticated):
            bench.hub.authenticate("wrong", "127.0.0.1:1")

    running(body)


def test_strangers_are_remembered_only_while_the_address_says_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("townhall.hub.hub.STRANGERS_COUNT_MAX", 3)

    async def body(bench: Running) -> None:
        def same() -> None:
            for number in range(5):
                address = f"127.0.0.1:{number}"
                plain = resolve(bench.hub.state, bench.hub.options.rules, secret="", address=address, now_ms=0)
                assert bench.hub.authenticate("", address) == plain
                assert bench.hub.authenticate("", address) == plain

        same()
        assert len(bench.hub._strangers) <= 3
        known = bench.hub.authenticate("", "127.0.0.1:1")
        assert bench.hub.authenticate("", "127.0.0.1:1") is known
        rule = Rule(Resource.KEY, Level.READ, "etcd/")
        bench.hub.state.policies["p"] = Policy("p", (rule,))
        bench.hub.state.tokens[ANONYMOUS] = Token(ANONYMOUS, b"", ("p",))
        same()
        assert bench.hub.authenticate("", "127.0.0.1:1").rules == (rule,)
        del bench.hub.state.tokens[ANONYMOUS]
        same()
        await bench.done(BootstrapAccess())
        same()
        assert bench.hub.authenticate("", "127.0.0.1:1").restricted

    running(body)


def test_configuration_can_ask_for_tokens() -> None:
    async def body(bench: Running) -> None:
        assert bench.hub.authenticate("", "127.0.0.1:1").restricted

    running(body, options=HubOptions(node="here", rules=Rules(access_required=True)))


def test_everything_acknowledged_is_there_after_a_restart() -> None:
    engine = MemoryEngine()

    async def body(bench: Running) -> None:
        await asyncio.gather(*[bench.send(register(f"i{number}")) for number in range(30)])
        await bench.done(Deregister(key=WEB, id="i7"))

    async def after(bench: Running) -> None:
        ids = {instance.id for instance in bench.hub.reader(INTERNAL).instances(WEB)}
        assert ids == {f"i{number}" for number in range(30)} - {"i7"}
        assert (await bench.done(register("more"))).position == 32

    running(body, engine)
    running(after, engine)


def test_time_goes_on_from_the_last_commit() -> None:
    engine = MemoryEngine()

    async def body(bench: Running) -> None:
        bench.clock.advance(10_000_000)
        await bench.done(register())

    async def after(bench: Running) -> None:
        assert bench.clock.now_ms() == bench.hub.state.time_ms

    running(body, engine)
    running(after, engine)


def test_a_tick_that_fails_is_counted_and_the_next_one_comes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(expiry: Expiry) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Expiry, "tick", broken)

    async def body(bench: Running) -> None:
        await until(lambda: bench.hub.tick_errors >= 2)

    with caplog.at_level(logging.ERROR):
        running(body, options=OPTIONS)
    assert "expiry failed at one tick" in caplog.text


def test_open_takes_its_defaults() -> None:
    async def main() -> None:
        hub = Hub.open(MemoryEngine())
        await hub.start()
        assert hub.ready
        await hub.stop()
        assert not hub.ready
        await hub.stop()

    asyncio.run(main())
