"""Cluster, Maintenance and health, as a single member of etcd 3.6 answers."""

from __future__ import annotations

import hashlib

import pytest
from etcd_calls import IDENTITY, Calls, messages, methods_of_services, pulled

from townhall.core import KeyRange
from townhall.core.codec import load_state
from townhall.core.commands import CompactSpace, Transact
from townhall.face import Stream
from townhall.face.etcd import backup as backups
from townhall.face.etcd import cluster as clusters
from townhall.face.etcd import health, maintenance
from townhall.face.etcd.answers import answer, bare, refusal
from townhall.face.etcd.member import SPACE, identity
from townhall.face.grpc import Code
from townhall.model import limits
from townhall.model.errors import Damaged, OverLimit
from townhall.model.keys import Delete, Put, Transaction
from townhall.wire.etcd import cluster
from townhall.wire.etcd import maintenance as wire
from townhall.wire.etcd.health import HealthCheckRequest, HealthCheckResponse

C, M, H = "/etcdserverpb.Cluster/", "/etcdserverpb.Maintenance/", "/grpc.health.v1.Health/"
MINE = IDENTITY.member_id
FIXED = ("FAILED_PRECONDITION", "etcdserver: re-configuration failed due to not enough started members")


def put(world: Calls, *keys: bytes, value: bytes = b"v", alarm: bool = False) -> object:
    transaction = Transaction(success=tuple(Put(key, value) for key in keys))
    return world.run(Transact(space=SPACE, transaction=transaction, alarm=alarm))


# --- the member and its cluster


def test_ids_are_made_of_names_and_stay():
    again = identity(name="n1", datacenter="dc1", client_url="http://127.0.0.1:1")
    assert (again.member_id, again.cluster_id) == (IDENTITY.member_id, IDENTITY.cluster_id)
    assert identity(name="n2", datacenter="dc1", client_url="").member_id != IDENTITY.member_id
    assert 0 < IDENTITY.member_id < 1 << 63
    again.listens("http://127.0.0.1:2")
    assert list(again.member().client_urls) == ["http://127.0.0.1:2"]


def test_the_only_member():
    world = Calls()
    found = world.get(C + "MemberList", b"", cluster.MemberListResponse)
    assert found.header is not None
    assert (found.header.revision, found.header.member_id) == (0, MINE)
    (member,) = found.members
    assert (member.id, member.name, list(member.client_urls)) == (MINE, "n1", ["http://127.0.0.1:2379"])


@pytest.mark.parametrize(
    ("name", "message", "refused"),
    [
        ("MemberAdd", cluster.MemberAddRequest(), "etcdserver: given member URLs are invalid"),
        ("MemberAdd", cluster.MemberAddRequest(("nonsense",)), "etcdserver: given member URLs are invalid"),
        ("MemberAdd", cluster.MemberAddRequest(("http://[:1",)), "etcdserver: given member URLs are invalid"),
        ("MemberAdd", cluster.MemberAddRequest(IDENTITY.peer_urls, True), "etcdserver: Peer URLs already exists"),
        ("MemberAdd", cluster.MemberAddRequest(("http://127.0.0.1:9",)), FIXED[1]),
        ("MemberRemove", cluster.MemberRemoveRequest(1), "etcdserver: member not found"),
        ("MemberRemove", cluster.MemberRemoveRequest(MINE), FIXED[1]),
        ("MemberUpdate", cluster.MemberUpdateRequest(1, ("http://127.0.0.1:1",)), "etcdserver: member not found"),
        ("MemberUpdate", cluster.MemberUpdateRequest(MINE, ("http://127.0.0.1:1",)), FIXED[1]),
        ("MemberUpdate", cluster.MemberUpdateRequest(MINE), "etcdserver: given member URLs are invalid"),
        ("MemberPromote", cluster.MemberPromoteRequest(1), "etcdserver: member not found"),
        ("MemberPromote", cluster.MemberPromoteRequest(MINE), "etcdserver: can only promote a learner member"),
    ],
)
def test_changes_of_the_members_are_refused(name, message, refused):
    assert Calls().refused(C + name, message)[1] == refused
    assert clusters.ClusterService(IDENTITY).methods()


def test_to_be_where_it_is_is_no_change():
    update = cluster.MemberUpdateRequest(MINE, IDENTITY.peer_urls)
    assert len(Calls().get(C + "MemberUpdate", update, cluster.MemberUpdateResponse).members) == 1


# --- status, alarms


def test_status():
    world = Calls()
    put(world, b"a")
    found = world.get(M + "Status", b"", wire.StatusResponse)
    assert found.header is not None
    assert (found.header.revision, found.leader, list(found.errors)) == (2, MINE, [])
    assert found.db_size == found.db_size_in_use == world.reader().space_size(SPACE) > 0
    assert (found.db_size_quota, found.raft_index) == (limits.SPACE_SIZE_DEFAULT_MAX, world.state.position)
    assert found.version.startswith("3.6.")
    assert found.downgrade_info == wire.DowngradeInfo()


def test_alarms_are_raised_and_taken_back():
    world = Calls()

    def alarms(**fields: int) -> list[int]:
        return [a.alarm for a in world.get(M + "Alarm", wire.AlarmRequest(**fields), wire.AlarmResponse).alarms]

    assert alarms() == []
    raise_it = {"action": 1, "member_id": MINE, "alarm": 1}
    assert alarms(**raise_it) == alarms(**raise_it) == alarms() == alarms(alarm=1) == [1]
    assert alarms(alarm=2) == []
    assert "alarm:NOSPACE" in world.get(M + "Status", b"", wire.StatusResponse).errors[0]
    take_back = raise_it | {"action": 2}
    assert alarms(**take_back | {"member_id": 5}) == alarms(**take_back | {"alarm": 0}) == []
    assert alarms(**take_back) == [1]
    assert alarms(**take_back) == alarms() == []


def test_no_space_stops_puts_and_nothing_else():
    world = Calls()
    put(world, b"a", b"b")
    world.get(M + "Alarm", wire.AlarmRequest(1, MINE, 1), wire.AlarmResponse)
    assert isinstance(put(world, b"a"), OverLimit)
    nested = Transaction(failure=(Transaction(success=(Put(b"c", b""),)),))
    assert isinstance(world.run(Transact(space=SPACE, transaction=nested)), OverLimit)
    assert world.reader().get(SPACE, b"a") is not None
    deleted = world.run(Transact(space=SPACE, transaction=Transaction(success=(Delete(b"b"),))))
    assert not isinstance(deleted, OverLimit)
    world.get(M + "Alarm", wire.AlarmRequest(2, MINE, 1), wire.AlarmResponse)
    assert not isinstance(put(world, b"a"), OverLimit)


# --- hashes, backup


def test_hashes_follow_the_content():
    world, other = Calls(), Calls()

    def hash_kv(of: Calls, revision: int = 0) -> wire.HashKVResponse:
        return of.get(M + "HashKV", wire.HashKVRequest(revision), wire.HashKVResponse)

    for each in (world, other):
        put(each, b"a", b"b")
        put(each, b"a", value=b"2")
        each.run(Transact(space=SPACE, transaction=Transaction(success=(Delete(b"b"),))))
    assert hash_kv(world).hash == hash_kv(other).hash
    assert (hash_kv(world).hash_revision, hash_kv(world).compact_revision) == (4, -1)
    whole = world.get(M + "Hash", b"", wire.HashResponse)
    assert whole.hash == hash_kv(world).hash
    now, then = hash_kv(world).hash, hash_kv(world, 3).hash
    assert then != now
    put(world, b"c")
    assert hash_kv(world).hash != now
    assert hash_kv(world, 4).hash == now
    world.run(CompactSpace(space=SPACE, revision=3))
    assert hash_kv(world, 3).hash == then
    assert hash_kv(world).compact_revision == 3
    future = world.refused(M + "HashKV", wire.HashKVRequest(99))
    assert future == ("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision")
    compacted = world.refused(M + "HashKV", wire.HashKVRequest(1))
    assert compacted == ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted")


@pytest.mark.parametrize("size", [0, 10, limits.SNAPSHOT_PIECE_SIZE * 3])
def test_a_snapshot_is_what_etcdctl_accepts_and_we_read_back(size):
    world = Calls()
    if size:
        put(world, b"a", value=b"x" * size)
        put(world, b"b")
    verb = world.call(M + "Snapshot")
    assert isinstance(verb, Stream)
    put(world, b"later")
    pieces = pulled(world, verb, wire.SnapshotResponse)
    data = b"".join(piece.blob for piece in pieces)
    assert len(data) % 512 == 32
    assert pieces[-1].blob == hashlib.sha256(data[:-32]).digest()
    assert [piece.remaining_bytes > 0 for piece in pieces] == [True] * (len(pieces) - 2) + [False, False]
    for step in (len(data), 7, limits.SNAPSHOT_PIECE_SIZE):
        state = load_state(backups.read_backup(data[at : at + step] for at in range(0, len(data), step)))
        found = state.spaces[SPACE].range(b"\0", b"\0")[0] if size else ()
        assert [kv.key for kv in found] == ([b"a", b"b"] if size else [])
    longer = data[:-32] + bytes(512)
    for damaged in (
        data[:-1], data[:50] + b"?" + data[51:], b"", b"x" * 600, data[:60], data + b"x",
        data[:-33] + b"x" + hashlib.sha256(data[:-33] + b"x").digest(), longer + hashlib.sha256(longer).digest()[::-1],
    ):  # fmt: skip
        with pytest.raises(Damaged):
            list(backups.read_backup([damaged]))


# --- the rest


def test_defragment_has_nothing_to_do_and_the_leader_stays():
    world = Calls()
    assert world.ask(M + "Defragment").body == b""
    assert world.ask(M + "MoveLeader", wire.MoveLeaderRequest(MINE)).body == b""
    refused = world.refused(M + "MoveLeader", wire.MoveLeaderRequest(1))
    assert refused == ("FAILED_PRECONDITION", "etcdserver: bad leader transferee")


@pytest.mark.parametrize(
    ("action", "version", "code"),
    [
        (2, "", "OK"),
        (0, "x", "wrong downgrade target version format"),
        (0, "2.0.0", "invalid downgrade target version"),
        (0, "3.5.0", "OK"),
        (1, "3.5.0", "no older version"),
    ],
)
def test_downgrade(action, version, code):
    reply = Calls().ask(M + "Downgrade", wire.DowngradeRequest(action, version))
    assert (code == "OK" and reply.status is Code.OK) or code in reply.body.decode()
    assert maintenance.MaintenanceService(IDENTITY).methods()


def test_health():
    world = Calls()
    assert world.get(H + "Check", HealthCheckRequest(), HealthCheckResponse).status == 1
    assert world.refused(H + "Check", HealthCheckRequest("etcdserverpb.KV")) == ("NOT_FOUND", "unknown service")
    for service, status in (("", 1), ("other", 3)):
        verb = world.call(H + "Watch", HealthCheckRequest(service))
        assert isinstance(verb, Stream)
        assert [message.status for message in pulled(world, verb, HealthCheckResponse)] == [status]
        assert verb.pull(world.reader()) is None
    assert health.methods()


def test_answers_have_their_header_first():
    world = Calls()
    reply = answer(IDENTITY, world.reader(), cluster.MemberListResponse(), revision=7)
    found = world.message(reply, cluster.MemberListResponse)
    assert found.header is not None
    assert found.header.revision == 7
    assert bare(HealthCheckResponse()).body == b""
    assert refusal(Code.UNKNOWN, "why").body == b"why"
    assert messages(b"", HealthCheckResponse) == []
    assert KeyRange(SPACE, b"a").space == SPACE


def test_every_method_has_one_row():
    paths = [method.path for method in methods_of_services()]
    assert len(paths) == len(set(paths)) == 17 + 5 + 8 + 2 + 5 + 2
