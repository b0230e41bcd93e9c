"""Expiry with a clock of the test's own and a writer that does what the test says."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.core import Command, Outcome
from townhall.core.commands import LapseLeases, RecoverLease, Sweep
from townhall.core.state import Lease, State
from townhall.hub import Done
from townhall.hub.clock import SimulatedClock
from townhall.hub.expiry import RETRY_MS, STALL_GRACE_MS, SWEEP_EVERY_MS, Expiry
from townhall.model import limits
from townhall.model.errors import EngineFull, TownhallError
from townhall.model.lease import LeaseKind

TTL = 3_000
TICK = 50


class Bench:
    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.state = State()
        self.submitted: list[tuple[Command, Done]] = []
        self.expiry = Expiry(
            clock=self.clock, state=self.state, node="here", submit=lambda c, d: self.submitted.append((c, d))
        )

    def grant(self, id_: int, *, kind: LeaseKind = LeaseKind.INSTANCE, ttl_ms: int = TTL, owner: str = "here") -> None:
        self.state.leases[id_] = Lease(
            id=id_, ttl_ms=ttl_ms, owner=owner, epoch=1, kind=kind, generation=self.state.generation
        )
        self.expiry.follow([id_])

    def run(self, ms: int) -> list[Command]:
        """Let time pass in ticks; the commands that came of it."""
        count = len(self.submitted)
        for _ in range(ms // TICK):
            self.clock.advance(TICK)
            self.expiry.tick()
        return [command for command, _ in self.submitted[count:]]

    def lapsing(self) -> list[int]:
        return [id_ for command, _ in self.submitted if isinstance(command, LapseLeases) for id_, _ in command.leases]

    def take(self, kind: type) -> tuple[Command, Done]:
        found = next(entry for entry in self.submitted if isinstance(entry[0], kind))
        self.submitted.remove(found)
        return found

    def lapse(self) -> None:
        """The LapseLeases that waits is written."""
        command, done = self.take(LapseLeases)
        assert isinstance(command, LapseLeases)
        for id_, _ in command.leases:
            if self.state.leases[id_].kind is LeaseKind.KEYS:
                del self.state.leases[id_]
            else:
                self.state.leases[id_].lapsed_at = self.clock.now_ms()
                self.state.silent[id_] = None
        self.expiry.follow([id_ for id_, _ in command.leases])
        done(Outcome(1, 1, ()))

    def recover(self) -> None:
        command, done = self.take(RecoverLease)
        assert isinstance(command, RecoverLease)
        lease = self.state.leases[command.id]
        lease.lapsed_at = lease.disconnected_at = 0
        self.state.silent.pop(command.id, None)
        self.expiry.follow([command.id])
        done(Outcome(2, 2, ()))


def test_a_lease_that_is_renewed_never_lapses() -> None:
    bench = Bench()
    bench.grant(1)
    for _ in range(20):
        assert bench.run(TTL // 3) == []
        assert bench.expiry.renew([1]) == []


def test_a_silent_lease_lapses_once_soon_after_its_deadline() -> None:
    bench = Bench()
    bench.grant(1)
    assert bench.run(TTL) == []
    assert bench.run(4 * TICK) == [LapseLeases(leases=((1, 1),))]
    assert bench.run(5_000) == [], "its lapse is being written"


def test_unknown_leases_are_named_and_those_of_other_nodes_are_not_ours_to_judge() -> None:
    bench = Bench()
    bench.grant(1)
    bench.grant(2, owner="elsewhere")
    assert bench.expiry.renew([1, 2, 3]) == [3]
    assert bench.expiry.deadline(2) is None
    assert bench.expiry.deadline(3) is None
    bench.run(2 * TTL)
    assert bench.lapsing() == [1]


def test_the_deadline_is_in_unix_time() -> None:
    bench = Bench()
    bench.grant(1)
    bench.run(1_000)
    assert bench.expiry.deadline(1) == bench.clock.now_ms() + TTL - 1_000
    bench.expiry.renew([1])
    assert bench.expiry.deadline(1) == bench.clock.now_ms() + TTL


def test_a_renewal_before_its_turn_under_the_brake_saves_it() -> None:
    bench = Bench()
    for id_ in range(1, limits.LAPSES_PER_SWEEP_MAX + 501):
        bench.grant(id_)
    bench.run(TTL + 2 * TICK)
    assert len(bench.lapsing()) == limits.LAPSES_PER_SWEEP_MAX
    spared = sorted(set(bench.state.leases) - set(bench.lapsing()))
    assert bench.expiry.renew(spared) == []
    bench.lapse()
    bench.run(2_000)
    assert bench.lapsing() == []
    assert bench.expiry.lapses_braked > 0


def test_the_brake_lets_a_bounded_number_through_per_second() -> None:
    bench = Bench()
    for id_ in range(1, 3 * limits.LAPSES_PER_SWEEP_MAX + 1):
        bench.grant(id_)
    bench.run(TTL)
    counts = []
    for _ in range(4):
        before = len(bench.state.silent)
        for _ in range(1_000 // TICK):
            bench.run(TICK)
            if bench.lapsing():
                bench.lapse()
        counts.append(len(bench.state.silent) - before)
    assert sum(counts) == 3 * limits.LAPSES_PER_SWEEP_MAX
    assert max(counts) <= 2 * limits.LAPSES_PER_SWEEP_MAX, "one second's worth is saved up at most"


def test_an_instance_lease_renewed_while_its_lapse_is_written_recovers_at_once() -> None:
    bench = Bench()
    bench.grant(1)
    bench.run(TTL + 4 * TICK)
    assert bench.expiry.renew([1]) == []
    bench.lapse()
    bench.recover()
    assert bench.expiry.deadline(1) == bench.clock.now_ms() + TTL
    bench.run(TTL + 4 * TICK)
    assert bench.lapsing() == [1]


def test_a_lease_of_keys_renewed_while_its_end_is_written_is_gone() -> None:
    bench = Bench()
    bench.grant(1, kind=LeaseKind.KEYS)
    bench.run(TTL + 4 * TICK)
    assert bench.expiry.renew([1]) == [1]
    bench.lapse()
    assert bench.expiry.renew([1]) == [1]
    assert len(bench.expiry.deadlines) == 0


def test_a_lapsed_lease_recovers_on_renewal_with_one_command() -> None:
    bench = Bench()
    bench.grant(1)
    bench.run(TTL + 4 * TICK)
    bench.lapse()
    bench.submitted.clear()
    assert bench.expiry.renew([1]) == []
    assert bench.expiry.renew([1]) == []
    assert [type(command) for command, _ in bench.submitted] == [RecoverLease]
    bench.recover()
    assert bench.expiry.counts()["leases_out"] == 0


def test_a_recovery_that_could_not_be_written_is_tried_again_and_nothing_is_evicted_before() -> None:
    bench = Bench()
    bench.grant(1)
    bench.run(TTL + 4 * TICK)
    bench.lapse()
    bench.submitted.clear()
    bench.expiry.renew([1])
    bench.take(RecoverLease)[1](EngineFull("no space"))
    assert bench.run(RETRY_MS - TICK) == [], "no sweep either: the renewal was acknowledged"
    assert bench.run(2 * TICK) == [RecoverLease(id=1)]
    bench.take(RecoverLease)[1](EngineFull("no space"))
    bench.expiry.renew([1])
    bench.recover()
    assert bench.run(TTL - TICK) == []


def test_a_recovery_that_failed_is_given_up_when_the_lease_is_silent_again() -> None:
    bench = Bench()
    bench.grant(1, ttl_ms=500)
    bench.run(500 + 4 * TICK)
    bench.lapse()
    bench.expiry.renew([1])
    bench.take(RecoverLease)[1](EngineFull("no space"))
    bench.submitted.clear()
    assert bench.run(2 * RETRY_MS) == [Sweep(count_max=limits.LAPSES_PER_SWEEP_MAX)]


def test_a_broken_connection_is_undone_by_a_renewal_and_its_deadline_still_runs() -> None:
    bench = Bench()
    bench.grant(1)
    bench.state.leases[1].disconnected_at = bench.clock.now_ms()
    bench.state.silent[1] = None
    bench.expiry.follow([1])
    bench.expiry.renew([1])
    bench.recover()
    bench.state.leases[1].disconnected_at = bench.clock.now_ms()
    bench.state.silent[1] = None
    bench.expiry.follow([1])
    bench.run(TTL + 4 * TICK)
    assert bench.lapsing() == [1]


def test_a_lapse_that_could_not_be_written_is_tried_again_later_unless_renewed() -> None:
    bench = Bench()
    bench.grant(1)
    bench.grant(2)
    bench.run(TTL + 4 * TICK)
    assert sorted(bench.lapsing()) == [1, 2]
    bench.expiry.renew([1])
    refusal: TownhallError = EngineFull("no space")
    bench.take(LapseLeases)[1](refusal)
    assert bench.run(500) == []
    bench.run(1_500)
    assert bench.lapsing() == [2]


def test_a_stall_of_ours_extends_every_deadline() -> None:
    bench = Bench()
    bench.grant(1)
    bench.run(TTL - 500)
    bench.clock.advance(60_000)
    bench.expiry.tick()
    assert bench.expiry.stalls == 1
    assert bench.expiry.deadline(1) == bench.clock.now_ms() + 500
    bench.run(STALL_GRACE_MS - TICK)
    assert bench.lapsing() == []
    bench.run(500)
    assert bench.lapsing() == [1], "but it does not live for ever"


def test_after_a_stall_nothing_lapses_before_the_sockets_were_read() -> None:
    bench = Bench()
    for id_ in (1, 2):
        bench.grant(id_)
    bench.run(TTL - TICK)
    bench.clock.advance(60_000)
    bench.expiry.tick()
    bench.run(STALL_GRACE_MS - 2 * TICK)
    assert bench.expiry.renew([1, 2]) == []
    bench.run(TTL - TICK)
    assert bench.lapsing() == []


def test_a_renewal_that_is_the_first_to_see_a_stall_makes_it_good_too() -> None:
    bench = Bench()
    bench.grant(1)
    bench.grant(2)
    bench.run(TTL - 500)
    bench.clock.advance(limits.STALL_MIN_MS + 10_000)
    bench.expiry.renew([1])
    assert bench.expiry.stalls == 1
    assert bench.expiry.deadline(2) == bench.clock.now_ms() + 500


def test_a_short_hiccup_is_not_taken_for_silence() -> None:
    bench = Bench()
    bench.grant(1)
    bench.run(TTL - TICK)
    bench.clock.advance(limits.STALL_MIN_MS - TICK)
    bench.expiry.tick()
    assert bench.lapsing() == [], "it was not over at the last look"
    assert bench.expiry.renew([1]) == []
    bench.run(TTL - 2 * TICK)
    assert bench.lapsing() == []


def test_adopting_gives_a_full_ttl_and_postpones_evictions() -> None:
    bench = Bench()
    for id_ in (1, 2):
        bench.grant(id_)
    bench.run(TTL - 500)
    bench.state.leases[2].lapsed_at = 1
    bench.state.silent[2] = None
    bench.expiry.adopt(bench.state.leases)
    assert bench.expiry.deadline(1) == bench.clock.now_ms() + TTL
    assert bench.run(TTL - TICK) == [], "neither a lapse nor a sweep"
    assert Sweep(count_max=limits.LAPSES_PER_SWEEP_MAX) in bench.run(500)


def test_sweeps_go_on_while_somebody_is_silent() -> None:
    bench = Bench()
    bench.grant(1, ttl_ms=60_000)
    assert bench.run(1_000) == []
    bench.state.silent[1] = None
    assert len(bench.run(1_000)) == 1
    assert bench.run(1_000) == [], "one at a time"
    bench.take(Sweep)[1](Outcome(1, 1, ()))
    assert len(bench.run(SWEEP_EVERY_MS)) == 1


def test_another_ttl_counts_from_the_grant() -> None:
    bench = Bench()
    bench.grant(1, ttl_ms=60_000)
    bench.run(1_000)
    bench.grant(1, ttl_ms=1_000)
    bench.run(1_000 + 4 * TICK)
    assert bench.lapsing() == [1]
    bench = Bench()
    bench.grant(1, ttl_ms=1_000)
    bench.run(500)
    bench.grant(1, ttl_ms=60_000)
    bench.run(59_000)
    assert bench.lapsing() == []


def test_an_ended_lease_leaves_nothing() -> None:
    bench = Bench()
    bench.grant(1)
    del bench.state.leases[1]
    bench.expiry.follow([1])
    assert bench.run(2 * TTL) == []
    assert len(bench.expiry.deadlines) == 0


def test_a_lease_taken_over_by_another_node_is_let_go() -> None:
    bench = Bench()
    bench.grant(1)
    bench.state.leases[1].owner = "elsewhere"
    bench.expiry.follow([1])
    assert bench.run(2 * TTL) == []


def test_a_lease_that_somebody_else_lapsed_leaves_the_wheel() -> None:
    bench = Bench()
    bench.grant(1)
    bench.state.leases[1].lapsed_at = 5
    bench.state.silent[1] = None
    bench.expiry.follow([1])
    bench.run(2 * TTL)
    assert bench.lapsing() == []
    bench.expiry.renew([1])
    bench.recover()
    bench.run(TTL + 4 * TICK)
    assert bench.lapsing() == [1]


_STEPS = st.one_of(
    st.tuples(st.just("renew"), st.integers(1, 4)),
    st.tuples(st.just("run"), st.sampled_from([TICK, TTL // 2, TTL, 4 * TTL])),
    st.tuples(st.just("stall"), st.sampled_from([1, limits.STALL_MIN_MS + 1])),
    st.tuples(st.just("break"), st.integers(1, 2)),
    st.tuples(st.just("lapse"), st.just(0)),
)


@given(st.lists(_STEPS, max_size=25))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_one_is_renewed_as_many_are(steps: list[tuple[str, int]]) -> None:
    def renew_many(bench: Bench, id_: int) -> bool:
        return bench.expiry.renew([id_]) == []

    def renew_one(bench: Bench, id_: int) -> bool:
        return bench.expiry.renew_one(id_)

    seen = []

    def renew_in_turn(bench: Bench, id_: int) -> bool:
        lease = bench.state.leases.get(id_)
        return (lease is not None and bench.expiry.renewing()(lease)) or bench.expiry.renew_one(id_)

    for renew in (renew_many, renew_one, renew_in_turn):
        bench = Bench()
        bench.grant(1)
        bench.grant(2, kind=LeaseKind.KEYS)
        bench.grant(3, owner="elsewhere")
        told: list[object] = []
        for step, value in steps:
            if step == "renew":
                told.append(renew(bench, value))
            elif step == "run":
                told.append(bench.run(value))
            elif step == "stall":
                bench.clock.advance(value)
            elif step == "break" and value in bench.state.leases:
                bench.state.leases[value].disconnected_at = bench.clock.now_ms()
                bench.state.silent[value] = None
                bench.expiry.follow([value])
            elif step == "lapse" and any(isinstance(command, LapseLeases) for command, _ in bench.submitted):
                bench.lapse()
            told.append((dict(bench.expiry.deadlines.at), bench.expiry.renewals, bench.expiry.stalled_ms))
        seen.append((told, [command for command, _ in bench.submitted]))
    assert seen[0] == seen[1] == seen[2]
