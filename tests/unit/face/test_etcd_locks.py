"""Locks and elections: the recorded answers, turns in order, and keys that are given up."""

from __future__ import annotations

from etcd_calls import IDENTITY, Calls, pulled

from townhall.core import KeyRange
from townhall.core.commands import EndLease, GrantLease, Transact
from townhall.face import Park, Reply, Stream, Submit
from townhall.face.etcd.elections import ElectionService, Observation
from townhall.face.etcd.locks import LockService
from townhall.face.etcd.member import SPACE
from townhall.face.etcd.waiting import first_created, key_of, prefix_end
from townhall.face.grpc import Code
from townhall.model.access import Actor
from townhall.model.keys import Delete, Put, Transaction
from townhall.model.lease import LeaseKind
from townhall.wire.etcd import concurrency as wire

LOCK, UNLOCK, E = "/v3lockpb.Lock/Lock", "/v3lockpb.Lock/Unlock", "/v3electionpb.Election/"
ANYBODY = Actor()


def with_leases(*leases: int) -> Calls:
    world = Calls()
    for lease in leases:
        world.run(GrantLease(id=lease, ttl_ms=60_000, kind=LeaseKind.KEYS))
    return world


def keys(world: Calls, prefix: bytes = b"lk/") -> list[bytes]:
    return [kv.key for kv in world.reader().range(SPACE, prefix, prefix_end(prefix)).kvs]


def waiting(world: Calls, name: bytes = b"lk", lease: int = 0) -> Park:
    return world.until_parked(world.call(LOCK, wire.LockRequest(name, lease)), ANYBODY)


def look(world: Calls, park: Park) -> wire.LockResponse | Park:
    """Woken: it answers, or waits for somebody else, or goes on waiting."""
    verb = park.attempt(world.reader(), False)
    if verb is None:
        return park
    while isinstance(verb, Submit):
        verb = verb.render(world.reader(), [world.run(command) for command in verb.commands])  # type: ignore[assignment]
    if isinstance(verb, Park):
        return world.until_parked(verb, ANYBODY)
    assert isinstance(verb, Reply)
    return world.message(verb, wire.LockResponse)


def abandon(world: Calls, park: Park) -> None:
    assert park.abandoned is not None
    for command in park.abandoned():
        world.run(command)


def test_a_lock_is_held_at_once_and_again_by_its_lease():
    world = with_leases(7)
    held = world.get(LOCK, wire.LockRequest(b"lk", 7), wire.LockResponse)
    assert held.header is not None
    assert (held.key, held.header.revision) == (b"lk/7", 2)
    again = world.get(LOCK, wire.LockRequest(b"lk", 7), wire.LockResponse)
    assert again.header is not None
    assert (again.key, again.header.revision) == (b"lk/7", 2)
    assert world.get(LOCK, wire.LockRequest(b"", 7), wire.LockResponse).key == b"/7"
    unlocked = world.get(UNLOCK, wire.UnlockRequest(b"lk/7"), wire.UnlockResponse)
    assert unlocked.header is not None
    assert unlocked.header.revision == 4
    assert world.get(UNLOCK, wire.UnlockRequest(b"lk/7"), wire.UnlockResponse).header == unlocked.header


def test_refusals_have_no_code_of_their_own():
    world = Calls()
    lost = ("UNKNOWN", "etcdserver: requested lease not found")
    assert world.refused(LOCK, wire.LockRequest(b"lk", 31337)) == lost
    assert world.refused(E + "Campaign", wire.CampaignRequest(b"seat", 31337, b"x")) == lost
    assert world.refused(UNLOCK, wire.UnlockRequest()) == ("UNKNOWN", "etcdserver: key is not provided")


def test_turns_come_in_the_order_of_asking_and_each_wakes_one():
    world = with_leases(1, 2, 3)
    world.get(LOCK, wire.LockRequest(b"lk", 1), wire.LockResponse)
    second, third = waiting(world, lease=2), waiting(world, lease=3)
    assert second.interests == (KeyRange(SPACE, b"lk/1"), KeyRange(SPACE, b"lk/2"))
    assert third.interests == (KeyRange(SPACE, b"lk/2"), KeyRange(SPACE, b"lk/3"))
    world.run(EndLease(id=1))
    assert look(world, third) is third
    held = look(world, second)
    assert isinstance(held, wire.LockResponse)
    assert held.key == b"lk/2"
    world.get(UNLOCK, wire.UnlockRequest(b"lk/2"), wire.UnlockResponse)
    assert isinstance(look(world, third), wire.LockResponse)


def test_who_waits_in_the_middle_may_go():
    world = with_leases(1, 2, 3)
    world.get(LOCK, wire.LockRequest(b"lk", 1), wire.LockResponse)
    second, third = waiting(world, lease=2), waiting(world, lease=3)
    abandon(world, second)
    assert keys(world) == [b"lk/1", b"lk/3"]
    moved = look(world, third)
    assert isinstance(moved, Park)
    assert moved.interests[0] == KeyRange(SPACE, b"lk/1")


def test_a_lost_key_ends_the_waiting():
    world = with_leases(1, 2)
    world.get(LOCK, wire.LockRequest(b"lk", 1), wire.LockResponse)
    second = waiting(world, lease=2)
    world.run(EndLease(id=2))
    answered = second.attempt(world.reader(), False)
    assert isinstance(answered, Reply)
    assert (answered.status, answered.body) == (Code.UNKNOWN, b"mutex: session is expired")


def test_without_a_lease_the_call_has_its_own():
    world = with_leases(1)
    world.get(LOCK, wire.LockRequest(b"lk", 1), wire.LockResponse)
    park = waiting(world)
    (own,) = [lease for lease in world.state.leases if lease != 1]
    assert world.state.leases[own].ttl_ms == 60_000
    assert keys(world) == sorted([b"lk/1", key_of(b"lk", own)])
    world.now += park.wait_ms
    further = park.attempt(world.reader(), True)
    assert isinstance(further, Submit)
    assert world.deadlines[own] == world.now + 60_000, "renewed while it waits"
    again = world.until_parked(further, ANYBODY)
    abandon(world, again)
    assert own not in world.state.leases
    assert keys(world) == [b"lk/1"]


def unheard(world: Calls, verb: object) -> list[object]:
    """The call ends while its commands are with the writer; what is submitted because of that."""
    assert isinstance(verb, Submit)
    assert verb.abandoned is not None
    commands = verb.abandoned([world.run(command) for command in verb.commands])
    return [world.run(command) for command in commands]


def test_a_call_that_ends_while_its_key_is_written_leaves_nothing():
    world = with_leases(1)
    world.get(LOCK, wire.LockRequest(b"lk", 1), wire.LockResponse)
    for request, path in (
        (wire.LockRequest(b"lk", 0), LOCK),
        (wire.CampaignRequest(b"lk", 0, b"x"), E + "Campaign"),
    ):
        assert unheard(world, world.call(path, request))
        assert list(world.state.leases) == [1], "the lease was granted, and ended"
        assert unheard(world, world.step(world.call(path, request), ANYBODY))
        assert (list(world.state.leases), keys(world)) == ([1], [b"lk/1"])
    world.run(GrantLease(id=2, ttl_ms=60_000, kind=LeaseKind.KEYS))
    assert unheard(world, world.call(LOCK, wire.LockRequest(b"lk", 2)))
    assert keys(world) == [b"lk/1"]
    assert not unheard(world, world.call(LOCK, wire.LockRequest(b"lk", 1))), "it was there before this call"
    assert keys(world) == [b"lk/1"]
    assert not unheard(world, world.call(LOCK, wire.LockRequest(b"lk", 31337))), "refused"


def test_who_has_asked_again_keeps_the_place():
    world = with_leases(1, 2)
    world.get(LOCK, wire.LockRequest(b"lk", 1), wire.LockResponse)
    first = world.call(LOCK, wire.LockRequest(b"lk", 2))
    again = world.call(LOCK, wire.LockRequest(b"lk", 2))
    assert not unheard(world, first)
    second = world.until_parked(again, ANYBODY)
    assert keys(world) == [b"lk/1", b"lk/2"]
    third = waiting(world, lease=2)
    abandon(world, second)
    assert keys(world) == [b"lk/1", b"lk/2"]
    abandon(world, third)
    assert keys(world) == [b"lk/1"]


def test_a_server_that_stops_gives_the_key_up():
    world = with_leases(1, 2)
    world.get(LOCK, wire.LockRequest(b"lk", 1), wire.LockResponse)
    park = waiting(world, lease=2)
    verb = park.attempt(world.reader(), True)
    assert isinstance(verb, Submit)
    reply = world.settle(verb, ANYBODY)
    assert (reply.status, reply.body) == (Code.UNAVAILABLE, b"etcdserver: server stopped")
    assert keys(world) == [b"lk/1"]


def test_negative_leases_are_written_as_go_does():
    assert key_of(b"lk", -5) == b"lk/-5"
    assert key_of(b"lk", 255) == b"lk/ff"
    assert prefix_end(b"lk/") == b"lk0"
    assert LockService(IDENTITY).methods()


# --- elections


def campaign(world: Calls, lease: int, value: bytes) -> wire.CampaignResponse:
    return world.get(E + "Campaign", wire.CampaignRequest(b"seat", lease, value), wire.CampaignResponse)


def test_an_election_as_it_was_recorded():
    world = with_leases(7)
    assert world.refused(E + "Leader", wire.LeaderRequest(b"seat")) == ("UNKNOWN", "election: no leader")
    elected = campaign(world, 7, b"one")
    leader = elected.leader
    assert leader == wire.LeaderKey(b"seat", b"seat/7", 2, 7)
    now = world.get(E + "Leader", wire.LeaderRequest(b"seat"), wire.LeaderResponse).kv
    assert now is not None
    assert (now.value, now.create_revision, now.lease) == (b"one", 2, 7)
    world.get(E + "Proclaim", wire.ProclaimRequest(leader, b"uno"), wire.ProclaimResponse)
    bad = wire.LeaderKey(b"seat", b"seat/zz", 3, 9)
    not_leader, no_key = ("UNKNOWN", "election: not leader"), ("UNKNOWN", '"leader" field must be provided')
    assert world.refused(E + "Proclaim", wire.ProclaimRequest(bad, b"x")) == not_leader
    assert world.refused(E + "Proclaim", wire.ProclaimRequest(None, b"x")) == no_key
    assert world.refused(E + "Resign", wire.ResignRequest()) == no_key
    nothing = world.get(E + "Resign", wire.ResignRequest(bad), wire.ResignResponse)
    assert nothing.header is not None
    assert nothing.header.revision == 3
    resigned = world.get(E + "Resign", wire.ResignRequest(leader), wire.ResignResponse)
    assert resigned.header is not None
    assert resigned.header.revision == 4
    assert first_created(world.reader(), b"seat") is None


def test_the_same_lease_again_says_something_else():
    world = with_leases(7)
    first = campaign(world, 7, b"one")
    assert campaign(world, 7, b"one").leader == first.leader
    again = campaign(world, 7, b"two")
    assert again.leader == first.leader
    found = first_created(world.reader(), b"seat")
    assert found is not None
    assert (found.value, found.version) == (b"two", 2)


def test_the_next_is_elected_when_the_leader_goes():
    world = with_leases(1, 2)
    campaign(world, 1, b"one")
    park = world.until_parked(world.call(E + "Campaign", wire.CampaignRequest(b"seat", 2, b"two")), ANYBODY)
    world.run(EndLease(id=1))
    reply = world.settle(park, ANYBODY)
    elected = world.message(reply, wire.CampaignResponse)
    assert elected.leader is not None
    assert elected.leader.key == b"seat/2"


def test_an_observer_is_told_every_value_and_every_leader():
    world = with_leases(1, 2)
    verb = world.call(E + "Observe", wire.LeaderRequest(b"seat"))
    assert isinstance(verb, Stream)
    assert verb.interests == (KeyRange(SPACE, b"seat/", b"seat0"),)

    def told() -> list[bytes]:
        found = pulled(world, verb, wire.LeaderResponse)
        return [message.kv.value for message in found if message.kv is not None]

    assert told() == []
    leader = campaign(world, 1, b"a").leader
    assert told() == [b"a"]
    park = world.until_parked(world.call(E + "Campaign", wire.CampaignRequest(b"seat", 2, b"z")), ANYBODY)
    for value in (b"b", b"c"):
        world.get(E + "Proclaim", wire.ProclaimRequest(leader, value), wire.ProclaimResponse)
    assert told() == [b"b", b"c"]
    world.get(E + "Proclaim", wire.ProclaimRequest(leader, b"d"), wire.ProclaimResponse)
    world.get(E + "Resign", wire.ResignRequest(leader), wire.ResignResponse)
    world.settle(park, ANYBODY)
    assert told() == [b"d", b"z"]
    world.run(EndLease(id=2))
    assert told() == []
    assert ElectionService(IDENTITY).methods()


def test_an_observer_that_fell_behind_a_compaction_begins_anew():
    from townhall.core.commands import CompactSpace

    world = with_leases(1)
    observation = Observation(IDENTITY, b"seat")
    leader = campaign(world, 1, b"a").leader
    assert observation.pull(world.reader()) is not None
    for value in (b"b", b"c"):
        world.get(E + "Proclaim", wire.ProclaimRequest(leader, value), wire.ProclaimResponse)
    world.run(CompactSpace(space=SPACE, revision=4))
    step = observation.pull(world.reader())
    assert step is not None
    assert step.data.count(b"seat/1") == 1
    other = Transaction(success=(Put(b"other", b""), Delete(b"none")))
    world.run(Transact(space=SPACE, transaction=other))
    assert observation.pull(world.reader()) is None
