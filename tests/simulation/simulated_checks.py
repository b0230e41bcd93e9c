"""The checkers. Each is named after what it promises and raises AssertionError with what it saw.

Most of them read the journal from its beginning, as somebody who was not there: what it says must explain everything
that anybody was told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from simulated_actors import LockHolder, Provider, Watcher, Writer, seen
from simulated_keys import KEYED
from simulated_world import World

from townhall.core import Commit, facts
from townhall.core.codec import decode_commit
from townhall.core.evolve import evolve
from townhall.core.queries import Reader
from townhall.core.state import State
from townhall.hub.hub import INTERNAL
from townhall.model.instance import ServiceKey, Verdict
from townhall.model.lease import EndReason, LeaseKind

View = dict[str, tuple[int, str, bool]]


def journal(world: World) -> list[Commit]:
    return [decode_commit(entry.blob, entry.position) for entry in world.memory.follow(0)]


def replay(commits: Iterable[Commit]) -> Iterator[tuple[State, Commit, Callable[[], None]]]:
    """(state before, commit, call to go on) for each commit."""
    state = State()
    for commit in commits:

        def go(commit: Commit = commit) -> None:
            evolve(state, commit)

        yield state, commit, go


def view(state: State, key: ServiceKey) -> View:
    service = state.services.get(key)
    return {} if service is None else {id_: seen(instance) for id_, instance in service.instances.items()}


def positions_are_dense(world: World, commits: Sequence[Commit]) -> None:
    assert [commit.position for commit in commits] == list(range(1, len(commits) + 1))
    times = [commit.time_ms for commit in commits]
    assert times == sorted(times), "time went back in the journal"


def acknowledged_writes_are_there(world: World, commits: Sequence[Commit], writers: Sequence[Writer]) -> None:
    for position, told in world.record.acknowledged:
        assert position <= len(commits), f"position {position} was acknowledged and is not in the journal"
        assert commits[position - 1].facts == told, f"position {position} holds something else than was acknowledged"
    assert world.hub is not None
    reader = world.hub.reader(INTERNAL)
    for writer in writers:
        kv = reader.get("native", writer.key)
        number = -1 if kv is None else int(kv.value)
        assert writer.acknowledged <= number <= writer.tried, f"{writer.name}: {number} after {writer.acknowledged}"


def state_is_what_the_journal_says(world: World, commits: Sequence[Commit]) -> None:
    state = State()
    for commit in commits:
        evolve(state, commit)
    state.check()
    assert world.hub is not None
    live = world.hub.state
    live.check()
    assert live.position == state.position
    assert set(live.services) == set(state.services)
    for key in state.services:
        assert view(live, key) == view(state, key), f"{key} differs from a replay"
    assert set(live.leases) == set(state.leases)
    tracked = set(world.hub.expiry.deadlines.at)
    assert tracked == set(live.leases), "a lease without a deadline would live for ever"


def watchers_converge_without_gap_or_repeat(
    world: World, commits: Sequence[Commit], watchers: Sequence[Watcher]
) -> None:
    """Repeats are noticed on arrival; a gap shows as a mirror that differs from the service at that revision."""
    wanted: dict[tuple[ServiceKey, int], list[tuple[Watcher, View]]] = {}
    for watcher in watchers:
        for revision, mirror in watcher.history:
            wanted.setdefault((watcher.key, revision), []).append((watcher, mirror))
    keys = {watcher.key for watcher in watchers}
    for state, commit, go in replay(commits):
        go()
        for key in keys:
            for watcher, mirror in wanted.pop((key, commit.position), ()):
                assert mirror == view(state, key), f"{watcher.name} was wrong at revision {commit.position}"
    wanted = {name: entries for name, entries in wanted.items() if name[1] > 0}
    assert not wanted, f"watchers were told of revisions that never were: {list(wanted)[:3]}"
    assert world.hub is not None
    for watcher in watchers:
        assert watcher.mirror.instances == view(world.hub.state, watcher.key), f"{watcher.name} did not converge"


def living_providers_are_called(world: World, providers: Sequence[Provider]) -> None:
    assert world.hub is not None
    for provider in providers:
        service = world.hub.state.services.get(provider.key)
        instance = service.instances.get(provider.id) if service is not None else None
        if provider.wanted:
            assert instance is not None, f"{provider.claim} lives and is not registered"
            assert instance.claim == provider.claim
            assert instance.verdict is Verdict.UP, (
                f"{provider.claim} lives and is {instance.verdict}: {instance.reason}"
            )
        elif instance is not None:
            assert instance.verdict is Verdict.SUSPECT, f"{provider.claim} is dead and {instance.verdict}"
            assert instance.evidence.held, f"{provider.claim} is dead, not held, and still there"


def nobody_is_evicted_while_heard(world: World, commits: Sequence[Commit]) -> None:
    """An eviction comes at least a TTL and most of its grace after the last sign of life (lapses: see the world)."""
    for state, commit, go in replay(commits):
        for fact in commit.facts:
            if not isinstance(fact, facts.LeaseEnded) or fact.reason is not EndReason.EXPIRED:
                continue
            lease, renewals = state.leases[fact.id], world.record.renewals.get(fact.id)
            if renewals is None:
                continue  # Its grant reached nobody, so nobody renewed it.
            at = world.record.durable_at[commit.position]
            last = max((heard for heard in renewals.heard if heard <= at - 0.1), default=renewals.heard[0])
            silence = at - last - world.stood_still(last, at)
            # The clock may run half as fast again while it catches up, which shortens the grace to 2/3. What had
            # lapsed before a start gets one more TTL to come back, not another grace.
            two_stages = lease.kind is LeaseKind.INSTANCE and last not in world.record.starts
            assert silence >= (1.6 if two_stages else 0.99) * renewals.ttl_s, (
                f"lease {fact.id} ({lease.kind}) ended at {at:.3f} after {silence:.3f} s without a sign of life"
            )
        go()


def the_floor_holds(world: World, commits: Sequence[Commit]) -> None:
    """Silence never takes a service below its floor."""
    for state, commit, go in replay(commits):
        silent = all(
            (isinstance(fact, facts.LeaseEnded) and fact.reason is EndReason.EXPIRED)
            or (isinstance(fact, facts.LeaseConnectionChanged) and not fact.up)
            or isinstance(fact, facts.LeaseLapsed | facts.HoldReleased)
            for fact in commit.facts
        )
        if not silent:
            go()
            continue
        state.time_ms = commit.time_ms  # Silent removals count within a window that ends now.
        reader = Reader(state, INTERNAL, world.rules)
        before = {key: (service.callable, reader.floor(key).needed) for key, service in state.services.items()}
        go()
        for key, (callable_count, needed) in before.items():
            if key == KEYED:
                continue  # What is a key goes with its lease, exactly then.
            service = state.services.get(key)
            left = 0 if service is None else service.callable
            assert left >= min(callable_count, needed), (
                f"silence left {left} of {callable_count} instances of {key} at {commit.position}, the floor is {needed}"
            )


def old_lives_are_fenced(world: World, commits: Sequence[Commit]) -> None:
    """A deregistration by claim takes away that claim's incarnation and no other."""
    for state, commit, go in replay(commits):
        for fact in commit.facts:
            if isinstance(fact, facts.Deregistered):
                claim = state.services[fact.key].instances[fact.id].claim
                asked = world.deregistrations.get((fact.key, fact.id), set())
                assert claim in asked, f"{claim} was removed at {commit.position}, but only {asked} asked for it"
        go()


def locks_exclude(world: World, holders: Sequence[LockHolder]) -> None:
    spans = sorted((begin, end, holder.name) for holder in holders for begin, end in holder.held)
    for (_, end, first), (begin, _, second) in pairwise(spans):
        assert end <= begin, f"{first} was sure of the lock until {end:.3f}, {second} from {begin:.3f}"


def nothing_was_wrong_on_the_way(world: World) -> None:
    assert not world.record.violations, "; ".join(world.record.violations[:5])
