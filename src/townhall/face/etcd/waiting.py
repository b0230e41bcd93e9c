"""Waiting for one's turn among the keys of a prefix: what locks and elections have in common.

The algorithm is that of etcd's own services and of ``concurrency`` in its Go client, so all of them can wait for each
other: whoever wants a turn puts ``name/LEASE`` (the lease in hexadecimal) on the lease, and it is their turn when no
key below ``name/`` was created before theirs. Each waits for the one before alone, so a turn that ends wakes one.

A call that ends early gives its key up, also when it ends while the key is just being written. A client that asks again
with the same lease (its connection broke) keeps its place: the earlier call then gives up nothing. Lease 0 asks for a
lease of the call's own, which is renewed while it waits and then left to end after its TTL, as etcd leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from townhall.core import Command, KeyRange, Outcome
from townhall.core.commands import EndLease, GrantLease, LeaseGrant, Transact, TransactResult
from townhall.core.live import Live
from townhall.core.queries import Reader
from townhall.face import Park, Reply, Submit, Verb
from townhall.face.etcd.answers import refusal
from townhall.face.etcd.member import SPACE
from townhall.face.grpc import Code
from townhall.model.errors import Denied, LeaseNotFound, OverLimit, Stopping, TownhallError, Unauthenticated
from townhall.model.keys import Compare, CompareTarget, Delete, Get, KeyValue, Put, Relation, Transaction
from townhall.model.lease import LeaseKind

__all__ = ["Turn", "Turns", "first_created", "key_of", "no_turns", "prefix_end", "told", "with_lease"]

SESSION_TTL_MS: Final = 60_000
"""The lease of a call that brings none; etcd's default for sessions."""
_LOOK_MS: Final = 20_000
"""A waiting call renews its own lease so often."""
_EXPIRED: Final = refusal(Code.UNKNOWN, "mutex: session is expired")


def prefix_of(name: bytes) -> bytes:
    """Below it lie the keys of those who want a turn."""
    return name + b"/"


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of keys that begin with it; it ends in a slash, so the last byte can be raised."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def key_of(name: bytes, lease: int) -> bytes:
    """The key of who wants a turn; Go writes negative numbers with their sign."""
    return b"%s%x" % (prefix_of(name), lease)


def first_created(reader: Reader, name: bytes) -> KeyValue | None:
    """Whose turn it is."""
    prefix = prefix_of(name)
    kvs = reader.range(SPACE, prefix, prefix_end(prefix)).kvs
    return min(kvs, key=_created) if kvs else None


def _created(kv: KeyValue) -> int:
    return kv.create_revision


def told(error: TownhallError) -> Reply:
    """A refusal as etcd's services tell it: they are clients of their own server, and pass on texts without codes."""
    match error:
        case LeaseNotFound():
            return refusal(Code.UNKNOWN, "etcdserver: requested lease not found")
        case Denied():
            return refusal(Code.UNKNOWN, "etcdserver: permission denied")
        case Unauthenticated():
            return refusal(Code.UNKNOWN, "etcdserver: user name is empty")
        case OverLimit() if error.fields.get("space") == SPACE:
            return refusal(Code.UNKNOWN, "etcdserver: mvcc: database space exceeded")
        case _:
            raise error


def with_lease(reader: Reader, name: bytes, lease: int, then: Callable[[int], Verb]) -> Verb:
    """Go on with this lease, or with a new one for 0; refused when the caller may not see who else is there."""
    prefix = prefix_of(name)
    try:
        reader.require_range(SPACE, prefix, prefix_end(prefix))
    except (Denied, Unauthenticated) as error:
        return told(error)
    if lease:
        return then(lease)

    def granted(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Verb:
        result = results[0]
        if isinstance(result, TownhallError):
            return told(result)
        assert isinstance(result.result, LeaseGrant)
        return then(result.result.id)

    return Submit((GrantLease(ttl_ms=SESSION_TTL_MS, kind=LeaseKind.KEYS),), granted, _unused)


def _unused(results: Sequence[Outcome | TownhallError]) -> Sequence[Command]:
    result = results[0]
    if isinstance(result, TownhallError):
        return ()
    assert isinstance(result.result, LeaseGrant)
    return (EndLease(id=result.result.id),)


class Turn(msgspec.Struct, frozen=True, weakref=True):
    """One call that wants its turn."""

    live: Live
    turns: Turns
    name: bytes
    lease: int
    own_lease: bool
    """It was granted for this call."""
    value: bytes
    reached: Callable[[Reader, Turn, int, int], Verb]
    """``(reader, turn, create revision of its key, revision of the header)``: it is this call's turn."""
    changed: Callable[[Reader, Turn, KeyValue], Verb | None]
    """The key was there already, on this lease: what to do first; None goes on waiting."""

    @property
    def key(self) -> bytes:
        """The key that wants the turn."""
        return key_of(self.name, self.lease)

    def begin(self) -> Submit:
        """Put the key, or find the one that this lease has put before."""
        key = self.key
        self.turns[key] = self
        transaction = Transaction(
            (Compare(key, CompareTarget.CREATE, Relation.EQUAL, 0),), (Put(key, self.value, self.lease),), (Get(key),)
        )
        return Submit((Transact(space=SPACE, transaction=transaction, alarm=True),), self._begun, self._unheard)

    def _begun(self, reader: Reader, results: Sequence[Outcome | TownhallError]) -> Verb:
        outcome = results[0]
        if isinstance(outcome, TownhallError):
            return told(outcome)
        result = outcome.result
        assert isinstance(result, TransactResult)
        if result.succeeded:
            return self.wait(reader, result.revision, result.revision)
        kv: KeyValue = result.responses[0].kvs[0]  # type: ignore[attr-defined]
        return self.changed(reader, self, kv) or self.wait(reader, kv.create_revision, result.revision)

    def _unheard(self, results: Sequence[Outcome | TownhallError]) -> Sequence[Command]:
        outcome = results[0]
        if isinstance(outcome, TownhallError):
            return (EndLease(id=self.lease),) if self.own_lease else ()
        result = outcome.result
        assert isinstance(result, TransactResult)
        # A key that was there before is not this call's to give up.
        return self._given_up(result.revision) if result.succeeded else ()

    def wait(self, reader: Reader, created: int, revision: int) -> Verb:
        """Answer at once when it is this call's turn, else wait for the one before."""
        before = self._before(reader, created)
        if before is None:
            return self.reached(reader, self, created, revision)
        until_ms = self.live.now_ms() + _LOOK_MS
        interests = (KeyRange(SPACE, before.key), KeyRange(SPACE, self.key))

        def attempt(reader: Reader, expired: bool) -> Reply | Submit | None:
            mine = reader.get(SPACE, self.key)
            if mine is None or mine.create_revision != created:
                return _EXPIRED
            standing = reader.get(SPACE, before.key)
            if standing is None or standing.create_revision != before.create_revision:
                # Nobody is submitted: it only looks who is before it now, and waits for them.
                return Submit((), lambda reader, _: self.wait(reader, created, reader.space_revision(SPACE)))
            if not expired:
                return None
            if self.live.now_ms() < until_ms:  # Not the time has passed: the server stops.
                return Submit(self._given_up(created), _stopping)
            if self.own_lease:
                self.live.renew((self.lease,))
            return Submit((), lambda reader, _: self.wait(reader, created, revision))

        return Park(interests, attempt, _LOOK_MS, lambda: self._given_up(created))

    def _before(self, reader: Reader, created: int) -> KeyValue | None:
        prefix = prefix_of(self.name)
        kvs = reader.range(SPACE, prefix, prefix_end(prefix)).kvs
        return max((kv for kv in kvs if kv.create_revision < created), key=_created, default=None)

    def _given_up(self, created: int) -> Sequence[Command]:
        if self.turns.get(self.key) is not self:
            return ()
        if self.own_lease:
            return (EndLease(id=self.lease),)
        mine = Compare(self.key, CompareTarget.CREATE, Relation.EQUAL, created)
        return (Transact(space=SPACE, transaction=Transaction((mine,), (Delete(self.key),))),)


def _stopping(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Verb:
    raise Stopping("etcdserver: server stopped")


Turns = MutableMapping[bytes, Turn]
"""Who asked last with which key; whoever is through is in it no more, by itself."""


def no_turns() -> Turns:
    """Nobody has asked yet."""
    return WeakValueDictionary()
