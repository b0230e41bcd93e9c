"""Leases: grant, renew, look at, list and revoke, as etcd's clients expect it."""

from __future__ import annotations

import pytest
from etcd_calls import IDENTITY
from etcd_world import KV, LEASE, EtcdWorld, Streamed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from townhall.core.commands import ChangeGuard, EndLease, GrantLease, OpenSession
from townhall.core.commands_guard import SetAlarm
from townhall.core.state import Lease
from townhall.face.etcd import leases as etcd_leases
from townhall.face.etcd.member import SPACE
from townhall.face.grpc import framed
from townhall.model.guard import Alarm
from townhall.model.lease import EndReason, LeaseKind
from townhall.wire.etcd import kv
from townhall.wire.etcd.lease import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseLeasesRequest,
    LeaseLeasesResponse,
    LeaseRevokeRequest,
    LeaseRevokeResponse,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from townhall.wire.protobuf_encode import encode

NOT_FOUND = ("NOT_FOUND", "etcdserver: requested lease not found")


@pytest.fixture
def world() -> EtcdWorld:
    return EtcdWorld()


def grant(world: EtcdWorld, ttl: int = 60, id_: int = 0) -> LeaseGrantResponse:
    found = world.get(f"{LEASE}/LeaseGrant", LeaseGrantRequest(ttl=ttl, id=id_), LeaseGrantResponse)
    world.deadlines[found.id] = world.now + found.ttl * 1_000
    return found


def left(world: EtcdWorld, id_: int, *, keys: bool = False) -> LeaseTimeToLiveResponse:
    request = LeaseTimeToLiveRequest(id=id_, keys=keys)
    return world.get(f"{LEASE}/LeaseTimeToLive", request, LeaseTimeToLiveResponse)


@pytest.mark.parametrize(("ttl", "granted"), [(60, 60), (0, 2), (-1, 2), (1, 2), (9_000_000_000, 9_000_000_000)])
def test_a_ttl_is_raised_to_the_least(world: EtcdWorld, ttl: int, granted: int) -> None:
    found = grant(world, ttl)
    assert (found.id > 0, found.ttl, found.error) == (True, granted, "")
    assert etcd_leases.LEASE_TTL_MIN_S == 2


def test_ids_may_be_chosen_even_negative_ones(world: EtcdWorld) -> None:
    assert grant(world, 60, 4242).id == 4242
    assert grant(world, 60, -5).id == -5
    world.put(b"k", lease=-5)
    assert world.range(b"k").kvs[0].lease == -5
    taken = world.refused(f"{LEASE}/LeaseGrant", LeaseGrantRequest(ttl=60, id=4242))
    assert taken == ("FAILED_PRECONDITION", "etcdserver: lease already exists")
    large = world.refused(f"{LEASE}/LeaseGrant", LeaseGrantRequest(ttl=9_000_000_001))
    assert large == ("OUT_OF_RANGE", "etcdserver: too large lease TTL")


def test_no_space_no_lease(world: EtcdWorld) -> None:
    world.run(ChangeGuard(space=SPACE, order=SetAlarm(Alarm.NO_SPACE, True)))
    full = world.refused(f"{LEASE}/LeaseGrant", LeaseGrantRequest(ttl=60))
    assert full == ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded")


def test_keys_hang_on_a_lease_until_they_are_put_without_it(world: EtcdWorld) -> None:
    first, second = grant(world).id, grant(world).id
    world.put(b"l/2", lease=first)
    world.put(b"l/1", lease=first)
    assert left(world, first, keys=True).keys == [b"l/1", b"l/2"]
    world.put(b"l/1", b"y", ignore_lease=True)
    assert world.range(b"l/1").kvs[0].lease == first
    world.put(b"l/1", lease=second)
    world.put(b"l/2")
    assert left(world, first, keys=True).keys == ()
    assert left(world, second).keys == ()
    # Taken over by a new lease: the end of the old one leaves it alone.
    world.get(f"{LEASE}/LeaseRevoke", LeaseRevokeRequest(id=first), LeaseRevokeResponse)
    assert world.range(b"l/", range_end=b"l0").count == 2
    header = world.get(f"{LEASE}/LeaseRevoke", LeaseRevokeRequest(id=second), LeaseRevokeResponse).header
    assert header == kv.ResponseHeader(header.cluster_id, header.member_id, 7, 2) if header else False
    assert world.range(b"l/", range_end=b"l0").count == 1
    for id_ in (first, second, 0):
        assert world.refused(f"{LEASE}/LeaseRevoke", LeaseRevokeRequest(id=id_)) == NOT_FOUND
    assert world.refused(f"{KV}/Put", kv.PutRequest(key=b"k", lease=first)) == NOT_FOUND


def test_what_is_left(world: EtcdWorld) -> None:
    id_ = grant(world).id
    world.now += 1_500
    found = left(world, id_)
    assert (found.id, found.ttl, found.granted_ttl) == (id_, 58, 60)
    world.now += 100_000
    assert left(world, id_).ttl == 0
    unknown = left(world, 555, keys=True)
    assert (unknown.id, unknown.ttl, unknown.granted_ttl, unknown.keys) == (555, -1, 0, ())


def test_keep_alive(world: EtcdWorld) -> None:
    id_ = grant(world).id
    stream = Streamed(world, f"{LEASE}/LeaseKeepAlive", LeaseKeepAliveResponse)
    world.now += 30_000
    position = world.state.position
    answers = [stream.say(LeaseKeepAliveRequest(id=one))[0] for one in (id_, 555, 0, -7)]
    assert [(one.id, one.ttl) for one in answers] == [(id_, 60), (555, 0), (0, 0), (-7, 0)]
    assert all(one.header.revision == 1 for one in answers)
    assert left(world, id_).ttl == 60
    assert world.state.position == position
    world.run(EndLease(id=id_, reason=EndReason.EXPIRED))
    assert stream.say(LeaseKeepAliveRequest(id=id_))[0].ttl == 0
    assert stream.duplex.closed(False) == ()


@given(st.lists(st.tuples(st.sampled_from([0, 1, 7, -5, 2**62]), st.booleans(), st.booleans()), max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_renewals_that_are_remembered_are_answered_like_those_read_anew(asked: list[tuple[int, bool, bool]]) -> None:
    world = EtcdWorld()
    service = etcd_leases.LeaseService(IDENTITY)
    for id_, change, longer in asked:
        if change and id_:
            granted = isinstance(world.reader().state.leases.get(id_), Lease)
            world.run(
                EndLease(id=id_)
                if granted
                else GrantLease(id=id_, ttl_ms=7_000 if longer else 600_000, kind=LeaseKind.KEYS)
            )
            world.put(b"k")
        plain = encode(LeaseKeepAliveRequest(id=id_))
        lease = world.state.leases.get(id_)
        header = kv.ResponseHeader(IDENTITY.cluster_id, IDENTITY.member_id, world.reader().space_revision(SPACE), 2)
        expected = LeaseKeepAliveResponse(header=header, id=id_, ttl=lease.ttl_ms // 1_000 if lease else 0)
        # Alone, and with unknown fields behind it: a short one, and one too long to be remembered.
        for data in (plain, plain + b"\x10\x01", plain + b"\x7a\x20" + b"x" * 32):
            assert service.renewed(world, world.reader(), data) == (framed(encode(expected)),)
            again = service.renewing(world, world.reader())
            assert again is not None
            unknown = lease is None or len(data) > etcd_leases.RENEWAL_SIZE_MAX
            assert again(framed(data)) == (None if unknown else framed(encode(expected)))
            assert again(framed(data)[:-1]) is None


def test_what_is_renewed_again_moves_the_deadline(world: EtcdWorld) -> None:
    id_ = grant(world).id
    stream = Streamed(world, f"{LEASE}/LeaseKeepAlive", LeaseKeepAliveResponse)
    message = encode(LeaseKeepAliveRequest(id=id_))
    assert stream.duplex.again is not None
    again = stream.duplex.again(world.reader())
    assert again is not None
    assert again(framed(message)) is None, "it did not come before"
    first = stream.duplex.receive(world.reader(), message)
    world.now += 30_000
    assert left(world, id_).ttl == 30
    assert (again(framed(message)),) == first
    assert left(world, id_).ttl == 60


def test_only_so_many_renewals_are_remembered(world: EtcdWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_leases, "RENEWALS_COUNT_MAX", 3)
    service = etcd_leases.LeaseService(IDENTITY)
    for number in range(20):
        service.renewed(world, world.reader(), encode(LeaseKeepAliveRequest(id=number)))
        assert len(service._renewals) <= 3
    long = encode(LeaseKeepAliveRequest(id=1)) + b"\x7a\x20" + b"x" * 32
    service.renewed(world, world.reader(), long)
    assert framed(long) not in service._renewals
    assert len(long) > etcd_leases.RENEWAL_SIZE_MAX


def test_a_lease_that_is_just_ending_is_not_said_to_live(world: EtcdWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = grant(world).id
    monkeypatch.setattr(world, "renew", list)
    stream = Streamed(world, f"{LEASE}/LeaseKeepAlive", LeaseKeepAliveResponse)
    assert stream.say(LeaseKeepAliveRequest(id=id_))[0].ttl == 0


def test_the_list_begins_with_the_leases_that_end_first(world: EtcdWorld) -> None:
    ids = [grant(world, ttl).id for ttl in (60, 2, 9_000)]
    found = world.get(f"{LEASE}/LeaseLeases", LeaseLeasesRequest(), LeaseLeasesResponse)
    assert [lease.id for lease in found.leases] == [ids[1], ids[0], ids[2]]


def test_leases_of_instances_and_sessions_are_not_there(world: EtcdWorld) -> None:
    instance = world.run(GrantLease(ttl_ms=15_000))
    session = world.run(OpenSession(ttl_ms=15_000))
    assert not isinstance(instance, Exception)
    assert not isinstance(session, Exception)
    assert len(world.state.leases) == 2
    assert world.get(f"{LEASE}/LeaseLeases", LeaseLeasesRequest(), LeaseLeasesResponse).leases == ()
    for id_ in list(world.state.leases):
        assert left(world, id_).ttl == -1
        assert world.refused(f"{LEASE}/LeaseRevoke", LeaseRevokeRequest(id=id_)) == NOT_FOUND
