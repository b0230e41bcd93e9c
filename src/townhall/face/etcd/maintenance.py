"""The Maintenance service: what one member can tell about itself, alarms, hashes and a backup.

There is no Raft log and no file of bbolt behind this server. Status shows the journal's position as the index, sizes are
those of the space in memory, and Defragment has nothing to do. A snapshot is a backup of our own (``backup``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from townhall.core import Outcome
from townhall.core.commands import ChangeGuard
from townhall.core.commands_guard import SetAlarm
from townhall.core.queries import Reader
from townhall.face import EndOfStream, Pulled, Reply, Stream, Submit, Verb
from townhall.face.etcd.answers import after_work, answer, bare, outcome_of, refusal
from townhall.face.etcd.backup import Backup, hash_records
from townhall.face.etcd.member import CLUSTER_VERSION, RAFT_TERM, SERVER_VERSION, SPACE, Identity
from townhall.face.grpc import Call, Code, Kind, Method, framed
from townhall.model.access import Level
from townhall.model.errors import TownhallError
from townhall.model.guard import Alarm
from townhall.wire.etcd import maintenance as wire
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import encode

__all__ = ["MaintenanceService"]

_FUTURE: Final = refusal(Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
_COMPACTED: Final = refusal(Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
_BAD_TRANSFEREE: Final = refusal(Code.FAILED_PRECONDITION, "etcdserver: bad leader transferee")
_BAD_VERSION: Final = refusal(Code.INVALID_ARGUMENT, "etcdserver: wrong downgrade target version format")
_INVALID_VERSION: Final = refusal(Code.INVALID_ARGUMENT, "etcdserver: invalid downgrade target version")
_NO_DOWNGRADE: Final = refusal(Code.UNIMPLEMENTED, "townhall: there is no older version of etcd to go back to")
_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)\Z")
_MINOR_BELOW: Final = ("3", "5")


class MaintenanceService:
    """``etcdserverpb.Maintenance``."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def methods(self) -> Sequence[Method]:
        """The rows of the face's table."""
        handlers: Mapping[str, Callable[[Call, Reader], Verb]] = {
            "Status": self.status,
            "Alarm": self.alarm,
            "Defragment": self.defragment,
            "Hash": self.hash,
            "HashKV": self.hash_kv,
            "MoveLeader": self.move_leader,
            "Downgrade": self.downgrade,
        }
        unary = [Method(f"/etcdserverpb.Maintenance/{name}", handler) for name, handler in handlers.items()]
        return [*unary, Method("/etcdserverpb.Maintenance/Snapshot", self.snapshot, Kind.SERVER_STREAM)]

    def status(self, call: Call, reader: Reader) -> Verb:
        """How the member is."""
        size = reader.space_size(SPACE)
        member_id = self._identity.member_id
        errors = [f"memberID:{member_id} alarm:{_alarm(alarm).name} " for alarm in reader.guard(SPACE).alarms()]
        status = wire.StatusResponse(
            version=SERVER_VERSION,
            db_size=size,
            leader=member_id,
            raft_index=reader.position,
            raft_term=RAFT_TERM,
            raft_applied_index=reader.position,
            errors=errors,
            db_size_in_use=size,
            storage_version=CLUSTER_VERSION,
            db_size_quota=reader.space_size_max,
            downgrade_info=wire.DowngradeInfo(),
        )
        return answer(self._identity, reader, status)

    # --- alarms

    def alarm(self, call: Call, reader: Reader) -> Verb:
        """List, raise or take back."""
        request = decode(wire.AlarmRequest, call.message)
        if request.action == wire.AlarmAction.GET:
            standing = [_alarm(alarm) for alarm in reader.guard(SPACE).alarms()]
            return self._alarms(reader, [one for one in standing if request.alarm in (0, one)])
        reader.guard(SPACE).require(Level.WRITE)
        if request.member_id != self._identity.member_id or request.alarm not in Alarm._value2member_map_:
            return self._alarms(reader, [])
        raised = request.action == wire.AlarmAction.ACTIVATE

        def done(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Reply:
            result = outcome_of(results).result
            return self._alarms(reader, [wire.AlarmType(request.alarm)] if raised or result else [])

        return Submit((ChangeGuard(space=SPACE, order=SetAlarm(Alarm(request.alarm), raised)),), done)

    def _alarms(self, reader: Reader, alarms: Sequence[wire.AlarmType]) -> Reply:
        shown = [wire.AlarmMember(self._identity.member_id, alarm) for alarm in alarms]
        return answer(self._identity, reader, wire.AlarmResponse(alarms=shown))

    # --- hashes

    def hash(self, call: Call, reader: Reader) -> Verb:
        """A hash over everything, which other runs of this registry give too, but no etcd."""
        revision = reader.space_revision(SPACE)
        records = reader.guard(SPACE).dump()

        def done(reader: Reader, found: int) -> Reply:
            return answer(self._identity, reader, wire.HashResponse(hash=found), revision=revision)

        return after_work(call.live.work(partial(hash_records, records, revision), call.peer), done)

    def hash_kv(self, call: Call, reader: Reader) -> Verb:
        """A hash over the keys as they were at a revision."""
        asked = decode(wire.HashKVRequest, call.message).revision
        current, compacted = reader.space_revision(SPACE), reader.space_compacted(SPACE)
        records = reader.guard(SPACE).dump()
        if asked > current:
            return _FUTURE
        if 0 < asked < compacted:
            return _COMPACTED
        revision = asked if asked > 0 else current

        def done(reader: Reader, found: int) -> Reply:
            told = wire.HashKVResponse(hash=found, compact_revision=compacted or -1, hash_revision=revision)
            return answer(self._identity, reader, told, revision=current)

        return after_work(call.live.work(partial(hash_records, records, revision), call.peer), done)

    # --- the rest

    def snapshot(self, call: Call, reader: Reader) -> Verb:
        """A backup in pieces, the last of them its SHA-256: what clients look for."""
        backup = Backup(reader.guard(SPACE).backup(), estimated=reader.space_size(SPACE))

        def pull(reader: Reader) -> Pulled:
            piece, remaining = backup.next()
            message = framed(encode(wire.SnapshotResponse(None, remaining, piece, CLUSTER_VERSION)))
            if backup.finished:
                raise EndOfStream(message)
            return Pulled(message, more=True)

        return Stream((), pull, content_type=b"application/grpc")

    def defragment(self, call: Call, reader: Reader) -> Verb:
        """Nothing to do: memory is not paged, and the journal compacts by itself."""
        reader.guard(SPACE).require(Level.WRITE)
        return bare(wire.DefragmentResponse())

    def move_leader(self, call: Call, reader: Reader) -> Verb:
        """The only member leads."""
        reader.guard(SPACE).require(Level.WRITE)
        target = decode(wire.MoveLeaderRequest, call.message).target_id
        return bare(wire.MoveLeaderResponse()) if target == self._identity.member_id else _BAD_TRANSFEREE

    def downgrade(self, call: Call, reader: Reader) -> Verb:
        """None is ever under way."""
        reader.guard(SPACE).require(Level.WRITE)
        request = decode(wire.DowngradeRequest, call.message)
        done = answer(self._identity, reader, wire.DowngradeResponse(version=CLUSTER_VERSION))
        if request.action == wire.DowngradeAction.CANCEL:
            return done
        version = _VERSION.match(request.version)
        if version is None:
            return _BAD_VERSION
        if version.groups()[:2] != _MINOR_BELOW:
            return _INVALID_VERSION
        return done if request.action == wire.DowngradeAction.VALIDATE else _NO_DOWNGRADE


def _alarm(alarm: Alarm) -> wire.AlarmType:
    return wire.AlarmType(int(alarm))
