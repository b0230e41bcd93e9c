"""The Lease service: leases of keys, in whole seconds.

A renewal is no command: it moves a deadline in memory and is answered at once. Leases that instances of the catalogue
hang on, and those of sessions, are nobody's business here: to etcd's clients there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from townhall.core import Command, Outcome
from townhall.core.commands import EndLease, GrantLease, LeaseGrant
from townhall.core.live import Live
from townhall.core.queries import Reader
from townhall.core.state import Lease
from townhall.face import Duplex, Pulled, Reply, Step, Stream, Submit, Verb
from townhall.face.etcd.answers import answer, outcome_of
from townhall.face.etcd.errors import LEASE_NOT_FOUND, NO_SPACE, TTL_TOO_LARGE, Said
from townhall.face.etcd.member import SPACE, Identity
from townhall.face.grpc import Call, Kind, Method, framed
from townhall.model import limits
from townhall.model.errors import TownhallError
from townhall.model.guard import Alarm
from townhall.model.lease import LeaseKind
from townhall.wire.etcd import lease as wire
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import varint

__all__ = ["LeaseService"]

LEASE_TTL_MIN_S: Final = 2
"""etcd raises a TTL to this, one and a half election timeouts."""
_KEYS: Final = LeaseKind.KEYS
"""A name of its own: to look at an enumeration for each renewal takes longer than the comparison."""
_ID: Final = b"\x10"
_TTL: Final = b"\x18"
_TTL_MAX_S: Final = limits.LEASE_TTL_MAX_MS // 1_000
RENEWALS_COUNT_MAX: Final = 16_384
"""Renewals that are remembered by their bytes; beyond, all are read anew."""
RENEWAL_SIZE_MAX: Final = 16
"""A longer one has more in it than a number."""


class _Renewal:
    """A LeaseKeepAliveRequest that came before, and its last answer."""

    __slots__ = ("answer", "id", "revision", "ttl_ms")

    def __init__(self, id_: int) -> None:
        self.id = id_
        self.ttl_ms = 0
        """Of the lease when it was answered last; 0 for none."""
        self.revision = -1
        """That the last answer tells; -1 for none."""
        self.answer = b""


class LeaseService:
    """``etcdserverpb.Lease``."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._renewals: dict[bytes, _Renewal] = {}
        """By their bytes with the frame: a client sends the same ones as long as its lease lives."""

    def methods(self) -> Sequence[Method]:
        """The rows of the face's table."""
        prefix = "/etcdserverpb.Lease"
        return [
            Method(f"{prefix}/LeaseGrant", self.grant),
            Method(f"{prefix}/LeaseRevoke", self.revoke),
            Method(f"{prefix}/LeaseKeepAlive", self.keep_alive, Kind.DUPLEX),
            Method(f"{prefix}/LeaseTimeToLive", self.time_to_live),
            Method(f"{prefix}/LeaseLeases", self.leases),
        ]

    def grant(self, call: Call, reader: Reader) -> Verb:
        """A new lease. A TTL below the least is raised to it, as etcd does."""
        request = decode(wire.LeaseGrantRequest, call.message)
        if Alarm.NO_SPACE in reader.guard(SPACE).alarms():
            raise Said(NO_SPACE)
        if request.ttl > _TTL_MAX_S:
            raise Said(TTL_TOO_LARGE)
        ttl_s = max(request.ttl, LEASE_TTL_MIN_S)

        def done(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Reply:
            granted = outcome_of(results).result
            assert isinstance(granted, LeaseGrant)
            response = wire.LeaseGrantResponse(id=granted.id, ttl=granted.ttl_ms // 1_000)
            return answer(self._identity, reader, response)

        return Submit((GrantLease(ttl_ms=ttl_s * 1_000, id=request.id, kind=LeaseKind.KEYS),), done)

    def revoke(self, call: Call, reader: Reader) -> Verb:
        """End a lease; its keys go."""
        request = decode(wire.LeaseRevokeRequest, call.message)
        if _known(reader, request.id) is None:
            raise Said(LEASE_NOT_FOUND)

        def done(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Reply:
            outcome_of(results)
            return answer(self._identity, reader, wire.LeaseRevokeResponse())

        return Submit((EndLease(id=request.id),), done)

    def keep_alive(self, call: Call, reader: Reader) -> Verb:
        """A stream of renewals, for any number of leases."""
        live = call.live
        return Duplex(Stream((), _nothing), partial(self.renewed, live), _leave, again=partial(self.renewing, live))

    def renewed(self, live: Live, reader: Reader, data: bytes) -> Sequence[Step]:
        """The LeaseKeepAliveResponse to one request: TTL 0 for a lease that is not there, or is just ending."""
        renewal = self._renewals.get(framed(data)) or self._read(data)
        lease = _known(reader, renewal.id)
        ttl_ms = 0
        if lease is not None:
            reader.require_renewal((lease.id,))
            if live.renew_one(lease.id):
                ttl_ms = lease.ttl_ms
        revision = reader.space_revision(SPACE)
        # When nothing was written since, the last answer holds again.
        if revision != renewal.revision or ttl_ms != renewal.ttl_ms:
            self._tell(renewal, revision, ttl_ms)
        return (renewal.answer,)

    def renewing(self, live: Live, reader: Reader) -> Callable[[bytes], bytes | None] | None:
        """For one turn: the same for a request with its frame. None for one that did not come before, and for what is
        not as it nearly always is.
        """
        leases = reader.open_leases
        if leases is None:
            return None
        known, renew, revision, tell = self._renewals.get, live.renewing(), reader.space_revision(SPACE), self._tell

        def again(message: bytes) -> bytes | None:
            renewal = known(message)
            if renewal is None:
                return None
            lease = leases.get(renewal.id)
            if lease is None or lease.kind is not _KEYS or lease.sessions or not renew(lease):
                return None
            if revision != renewal.revision or lease.ttl_ms != renewal.ttl_ms:
                tell(renewal, revision, lease.ttl_ms)
            return renewal.answer

        return again

    def _tell(self, renewal: _Renewal, revision: int, ttl_ms: int) -> None:
        renewal.revision, renewal.ttl_ms = revision, ttl_ms
        renewal.answer = framed(self._identity.header.at(revision) + _said(renewal.id, ttl_ms))

    def _read(self, data: bytes) -> _Renewal:
        renewal = _Renewal(decode(wire.LeaseKeepAliveRequest, data).id)
        if len(data) <= RENEWAL_SIZE_MAX:
            if len(self._renewals) >= RENEWALS_COUNT_MAX:
                self._renewals.clear()
            self._renewals[framed(data)] = renewal
        return renewal

    def time_to_live(self, call: Call, reader: Reader) -> Verb:
        """What is left of a lease, and its keys."""
        request = decode(wire.LeaseTimeToLiveRequest, call.message)
        lease = _known(reader, request.id)
        if lease is None:
            return answer(self._identity, reader, wire.LeaseTimeToLiveResponse(id=request.id, ttl=-1))
        keys = reader.lease_keys(request.id, SPACE) if request.keys else ()
        left_s = max(_left_ms(call.live, lease), 0) // 1_000
        response = wire.LeaseTimeToLiveResponse(id=lease.id, ttl=left_s, granted_ttl=lease.ttl_ms // 1_000, keys=keys)
        return answer(self._identity, reader, response)

    def leases(self, call: Call, reader: Reader) -> Verb:
        """All leases, those that end first before the others."""
        found = sorted(reader.key_leases(), key=lambda lease: _left_ms(call.live, lease))
        shown = [wire.LeaseStatus(id=lease.id) for lease in found]
        return answer(self._identity, reader, wire.LeaseLeasesResponse(leases=shown))


def _said(id_: int, ttl_ms: int) -> bytes:
    """A LeaseKeepAliveResponse without its header."""
    said = _ID + varint(id_) if id_ else b""
    return said + _TTL + varint(ttl_ms // 1_000) if ttl_ms >= 1_000 else said


def _known(reader: Reader, id_: int) -> Lease | None:
    lease = reader.find_lease(id_)
    return lease if lease is not None and lease.kind is _KEYS and not lease.sessions else None


def _left_ms(live: Live, lease: Lease) -> int:
    deadline = live.deadline(lease.id)
    return lease.ttl_ms if deadline is None else deadline - live.now_ms()


def _nothing(reader: Reader) -> Pulled | None:
    return None


def _leave(clean: bool) -> Sequence[Command]:
    return ()
