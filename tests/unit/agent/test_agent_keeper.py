from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from agent_registry import AWAY, Bench

from townhall.client.address import AddressChoice
from townhall.client.definitions import Service
from townhall.client.records import Drain, Health, Registration
from townhall.model import limits
from townhall.model.check import CheckStatus
from townhall.model.errors import Denied

WELL, ILL = Health(CheckStatus.PASSING), Health(CheckStatus.CRITICAL, "HTTP 500")
WEB = Service(name="web", port=80)
ID = "web-127.0.0.1-80"


def played(play: Callable[[Bench], Awaitable[None]]) -> Bench:
    async def main() -> Bench:
        bench = Bench()
        bench.keeper.start()
        try:
            await play(bench)
        finally:
            await bench.keeper.leave()
        return bench

    return asyncio.run(main())


def test_what_is_wanted_is_registered_told_and_taken_out() -> None:
    async def play(bench: Bench) -> None:
        keeper, registry = bench.keeper, bench.registry
        keeper.want("web", WEB, ILL)
        assert await keeper.settle(budget_s=120)
        assert registry.healths[ID] == ("critical", "HTTP 500"), "nobody sees it without its health"
        assert [service.name for service in keeper.services] == ["web"]
        keeper.say("web", WELL)
        assert await keeper.settle(budget_s=120)
        assert registry.healths[ID] == ("passing", "")
        registered = keeper.registered("web")
        assert registered is not None
        keeper.want("web", Service(name="web", port=80, weight=3), WELL)
        assert await keeper.settle(budget_s=120)
        assert (registry.instances_by_id[ID].weight, registry.instances_by_id[ID].incarnation) == (
            3,
            registered.incarnation,
        )
        keeper.unwant("web")
        assert await keeper.settle(budget_s=120)
        assert registry.instances_by_id == {}
        assert keeper.registered("web") is None
        assert registry.granted == ["1"], "one lease for all of it"

    bench = played(play)
    assert bench.events == ["registered", "back", "deregistered"]
    assert bench.registry.closed
    assert bench.registry.lease == ""


def test_another_port_is_another_instance_and_the_old_one_goes() -> None:
    async def play(bench: Bench) -> None:
        bench.keeper.want("web", WEB, WELL)
        assert await bench.keeper.settle(budget_s=120)
        bench.keeper.want("web", Service(name="web", port=81), WELL)
        assert await bench.keeper.settle(budget_s=120)
        assert list(bench.registry.instances_by_id) == ["web-127.0.0.1-81"]

    played(play)


def test_a_registry_that_is_away_is_asked_until_it_answers() -> None:
    async def play(bench: Bench) -> None:
        bench.registry.failing = AWAY
        bench.keeper.want("web", WEB, WELL)
        await bench.until(lambda: bench.keeper.away)
        assert not await bench.keeper.settle(budget_s=0.01)
        bench.registry.failing = None
        await bench.until(lambda: bench.registry.instances_by_id)

    bench = played(play)
    assert sorted(bench.events) == ["away", "back", "deregistered", "registered"]
    assert "runs on" in bench.notices[0].text
    assert limits.AGENT_BACKOFF_MAX_MS < limits.CLIENT_BACKOFF_MAX_MS


def test_a_refusal_is_told_once_and_others_are_registered_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AGENT_RETRY_MS", 1)

    async def play(bench: Bench) -> None:
        bench.registry.refusing["web"] = Denied("no right")
        bench.keeper.want("web", WEB, WELL)
        bench.keeper.want("api", Service(name="api", port=81), WELL)
        await bench.until(lambda: bench.registry.calls.count("register") > 2)
        assert list(bench.registry.instances_by_id) == ["api-127.0.0.1-81"]
        bench.registry.refusing.clear()
        await bench.until(lambda: ID in bench.registry.instances_by_id)

    assert played(play).events.count("refused") == 1


def test_what_the_registry_forgot_is_told_again_with_its_health() -> None:
    async def play(bench: Bench) -> None:
        bench.keeper.want("web", WEB, WELL)
        assert await bench.keeper.settle(budget_s=120)
        bench.registry.failing = AWAY
        bench.keeper.say("web", ILL)
        await bench.until(lambda: bench.keeper.away)
        bench.registry.forget()
        bench.registry.failing = None
        await bench.keeper.register_again()
        assert bench.registry.healths[ID] == ("critical", "HTTP 500")
        assert bench.registry.granted == ["1", "2"]

    played(play)


def test_an_ended_lease_is_found_out_with_the_next_registration() -> None:
    async def play(bench: Bench) -> None:
        bench.keeper.want("web", WEB, WELL)
        assert await bench.keeper.settle(budget_s=120)
        bench.registry.forget()
        bench.keeper.want("api", Service(name="api", port=81), WELL)
        await bench.until(lambda: len(bench.registry.instances_by_id) == 2)

    played(play)


def test_what_was_removed_by_hand_comes_back() -> None:
    async def play(bench: Bench) -> None:
        bench.keeper.want("web", WEB, WELL)
        assert await bench.keeper.settle(budget_s=120)
        del bench.registry.instances_by_id[ID]
        bench.keeper.say("web", ILL)
        await bench.until(lambda: ID in bench.registry.instances_by_id)

    played(play)


def test_a_later_process_keeps_what_it_took_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AGENT_RETRY_MS", 1)

    async def play(bench: Bench) -> None:
        registry = bench.registry
        bench.keeper.want("web", WEB, WELL)
        assert await bench.keeper.settle(budget_s=120)
        registry.put(Registration(service="web", id=ID, address="127.0.0.1", port=80, claim="another"), 99)
        bench.keeper.say("web", ILL)
        await bench.until(lambda: registry.calls.count("instance") > 2)
        assert registry.claims[ID] == "another"
        del registry.instances_by_id[ID]
        await bench.until(lambda: registry.claims[ID] == bench.keeper.claim)
        registry.put(Registration(service="web", id=ID, address="127.0.0.1", port=80, claim="another"), 100)
        bench.keeper.unwant("web")
        assert await bench.keeper.settle(budget_s=120)
        assert ID in registry.instances_by_id, "not ours to remove"

    assert "another process" in next(notice.text for notice in played(play).notices if notice.event == "refused")


def test_what_others_took_over_or_removed_is_noticed_without_a_change_of_health(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "AGENT_AUDIT_MS", 10)
    monkeypatch.setattr(limits, "AGENT_RETRY_MS", 10)

    async def play(bench: Bench) -> None:
        keeper, registry = bench.keeper, bench.registry
        keeper.want("web", WEB, WELL)
        assert await keeper.settle(budget_s=30)
        del registry.instances_by_id[ID]
        await bench.until(lambda: ID in registry.instances_by_id)
        other = Registration(service="web", id=ID, address="127.0.0.1", port=80, claim="another", lease="9")
        registry.put(other, 77)
        await bench.until(lambda: "refused" in bench.events)
        assert registry.claims[ID] == "another", "it works, so it is left alone"
        del registry.instances_by_id[ID]
        await bench.until(lambda: registry.claims[ID] == keeper.claim and ID in registry.instances_by_id)

    assert [event for event in played(play).events if event != "deregistered"] == [
        "registered", "registered", "refused", "registered",
    ]  # fmt: skip


def test_a_refusal_while_everything_is_registered_anew_is_not_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AGENT_RETRY_MS", 10)

    async def play(bench: Bench) -> None:
        keeper, registry = bench.keeper, bench.registry
        keeper.want("web", WEB, WELL)
        assert await keeper.settle(budget_s=30)
        registry.forget()
        registry.refusing["web"] = Denied("not you")
        await keeper.register_again()
        assert registry.instances_by_id == {}
        registry.refusing.clear()
        await bench.until(lambda: ID in registry.instances_by_id)

    played(play)


def test_a_drain_waits_for_the_subscribers() -> None:
    async def play(bench: Bench) -> None:
        assert await bench.keeper.drain("web", deadline_s=10), "what is not registered has no callers"
        bench.keeper.want("web", WEB, WELL)
        assert await bench.keeper.settle(budget_s=120)
        waiting = Drain(service="web", id=ID, state="draining", waiting_for=("a",))
        bench.registry.drains = [waiting, waiting, Drain(service="web", id=ID, state="complete")]
        assert await bench.keeper.drain("web", deadline_s=10)
        bench.registry.drains = [Drain(service="web", id=ID, state="complete", waiting_for=("a",))]
        assert not await bench.keeper.drain("web", deadline_s=10)

    played(play)


def test_leaving_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AGENT_LEAVE_MS", 50)

    async def play(bench: Bench) -> None:
        bench.keeper.want("web", WEB, WELL)
        assert await bench.keeper.settle(budget_s=120)
        bench.registry.failing = AWAY

    bench = played(play)
    assert "could not deregister" in bench.notices[-1].text
    assert bench.registry.closed


def test_what_is_kept_is_left_to_the_lease() -> None:
    async def main() -> Bench:
        bench = Bench()
        bench.keeper.start()
        bench.keeper.want("web", WEB, WELL)
        assert await bench.keeper.settle(budget_s=120)
        await bench.keeper.leave(keep=True)
        await bench.keeper.leave()
        return bench

    assert list(asyncio.run(main()).registry.instances_by_id) == [ID]


def test_an_address_that_cannot_be_found_is_told_and_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Bench:
        bench = Bench()
        bench.keeper._choice = AddressChoice(interface="nosuch0")
        finding = asyncio.create_task(bench.keeper.find_address())
        await bench.until(lambda: bench.notices)
        bench.keeper._choice = AddressChoice("127.0.0.3")
        assert await finding == "127.0.0.3"
        return bench

    assert asyncio.run(main()).events == ["address"]


def test_a_changed_address_moves_what_has_none_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_ADDRESS_INTERVAL_MS", 1)

    async def play(bench: Bench) -> None:
        bench.keeper._choice = AddressChoice()
        bench.keeper.start()
        bench.keeper.want("web", WEB, WELL)
        bench.keeper.want("own", Service(name="own", port=1, address="127.0.0.9"), WELL)
        await bench.until(lambda: len(bench.registry.instances_by_id) == 2)
        bench.keeper._choice = AddressChoice("127.0.0.4")
        await bench.until(
            lambda: "web-127.0.0.4-80" in bench.registry.instances_by_id and ID not in bench.registry.instances_by_id
        )
        assert "own-127.0.0.9-1" in bench.registry.instances_by_id

    assert "our address changed" in " ".join(notice.text for notice in played(play).notices)
