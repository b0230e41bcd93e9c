"""``evolve`` is total: facts in any order, about things that are not there, change nothing they should not."""

from __future__ import annotations

import typing

import msgspec
import pytest
from core_world import WEB, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_core_codec import ONE_OF_EACH

from townhall.core import Commit, facts
from townhall.core.evolve import _TABLE, evolve
from townhall.core.state import State
from townhall.model.errors import Damaged
from townhall.model.instance import Instance, ServiceKey, ServiceSettings, Verdict
from townhall.model.lease import EndReason, LeaseKind


def test_every_fact_has_its_function():
    assert _TABLE.keys() == set(typing.get_args(facts.Fact))


@pytest.mark.parametrize(
    "fact", [fact for fact in ONE_OF_EACH if type(fact).__name__ not in {"KeysWritten", "SessionOpened"}]
)
def test_a_fact_about_nothing_is_harmless(fact):
    state = State()
    evolve(state, Commit(1, 1_000, "n1", (fact,)))
    assert (state.position, state.time_ms) == (1, 1_000)
    assert state.instance_count == 0
    state.check()


def test_an_unknown_fact_is_refused_before_anything_changes():
    class Unheard(msgspec.Struct):
        pass

    state = State()
    with pytest.raises(Damaged):
        evolve(state, Commit(1, 1_000, "n1", (facts.ServicePut(WEB, {}, ServiceSettings()), Unheard())))
    assert (state.position, state.services) == (0, {})


keys = st.sampled_from((WEB, ServiceKey("other", "g", "db")))
ids = st.sampled_from("abc")
leases = st.sampled_from((0, 1, 2))
some_facts = st.one_of(
    st.builds(
        facts.Registered,
        st.builds(
            Instance,
            key=keys,
            id=ids,
            address=st.just("127.0.0.1"),
            lease=leases,
            ready=st.booleans(),
            enabled=st.booleans(),
        ),
        st.booleans(),
    ),
    st.builds(facts.Deregistered, keys, ids),
    st.builds(facts.OverrideSet, keys, ids, st.sampled_from((None, Verdict.UP, Verdict.SUSPECT))),
    st.builds(facts.MaintenanceSet, keys, ids, st.sampled_from(("", "disk"))),
    st.builds(facts.DrainStarted, keys, ids, st.just(5)),
    st.builds(facts.DrainCancelled, keys, ids),
    st.builds(facts.Reported, keys, ids, st.sampled_from(("", "failed"))),
    st.builds(facts.ServiceDeleted, keys),
    st.builds(
        facts.LeaseGranted, leases.filter(bool), st.just(5_000), st.just("n1"), st.just(1), st.just(LeaseKind.INSTANCE)
    ),
    st.builds(facts.LeaseEnded, leases, st.sampled_from(EndReason)),
    st.builds(facts.LeaseLapsed, leases, st.booleans()),
    st.builds(facts.LeaseRecovered, leases),
    st.builds(facts.LeaseConnectionChanged, st.just((1, 2)), st.booleans(), st.sampled_from(((), (1,), (2,)))),
    st.builds(facts.HoldReleased, leases),
    st.builds(facts.LeasesTakenOver, st.sampled_from(("", "n1")), st.just("n2")),
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(some_facts, min_size=1, max_size=3), max_size=30))
def test_any_sequence_of_facts_leaves_a_sound_state(commits):
    state = State()
    for position, some in enumerate(commits, 1):
        changes = evolve(state, Commit(position, 1_000 + position, "n1", tuple(some)))
        assert changes.position == position
        state.check()


def test_changes_say_what_moved():
    world = World()
    world.register("a")
    changes = world.changes[-1]
    assert (changes.services, changes.listings, changes.leases) == ({WEB}, {"default"}, {1001})
    world.register("a", weight=2.0)
    changes = world.changes[-1]
    assert (changes.services, changes.listings, changes.leases) == ({WEB}, set(), set())
    world.lapse("a")
    changes = world.changes[-1]
    assert (changes.services, changes.listings, changes.leases) == ({WEB}, {"default"}, {1001})
