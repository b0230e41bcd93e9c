"""Commits and states as bytes (MessagePack).

A snapshot is a sequence of chunks: one byte that names the section, then its items. Only causes are stored; counts,
attachments and indexes are derived again when it is read. ``dump_state`` notes what stands when it is called (see the
head of ``core.state``), so the caller may draw the chunks in slices while commits go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import force_setattr, replace

from townhall.core.codec_instances import InstanceChunk, load_instances, pack_instances
from townhall.core.facts import Commit
from townhall.core.facts_guard import KeyRolePut, UserPut
from townhall.core.guard import Guard
from townhall.core.key_records import read_record
from townhall.core.keyspace import Keyspace
from townhall.core.state import DEFAULT_SETTINGS, Lease, RemovedService, Service, Session, State
from townhall.core.tally import Tally
from townhall.core.ties import Ties
from townhall.model.access import Policy, Role, Token
from townhall.model.check import Check, Node
from townhall.model.errors import Damaged
from townhall.model.guard import Alarm
from townhall.model.instance import ServiceKey, ServiceSettings
from townhall.model.lease import LeaseKind
from townhall.model.tie import Tie

__all__ = ["FORMAT", "decode_commit", "dump_space", "dump_state", "encode_commit", "load_state"]

FORMAT: Final = 1
_CHUNK_COUNT: Final = 500
"""Items per chunk: about 100 KB and half a millisecond."""

_encode = msgspec.msgpack.Encoder().encode
_commits = msgspec.msgpack.Decoder(Commit)


def encode_commit(commit: Commit) -> bytes:
    """A commit for the journal. Its position is not in it: that is the entry's own."""
    return _encode(commit)


def decode_commit(blob: bytes, position: int) -> Commit:
    """The commit of a journal entry. Raises Damaged when it is not one, or is of a version that knows more."""
    try:
        commit = _commits.decode(blob)
    except msgspec.MsgspecError as exc:
        raise Damaged(f"journal entry {position} cannot be read: {exc}", position=position) from exc
    force_setattr(commit, "position", position)  # Just made here, nobody else has seen it.
    return commit


class _Head(msgspec.Struct, array_like=True):
    format: int
    position: int
    time_ms: int
    stamp: int
    stamp_node: str
    removed_floor: int
    listing_floor: int
    access_enabled: bool
    gone: list[tuple[tuple[ServiceKey, str], int]]
    """The registry's own silent removals."""
    listings: list[tuple[str, int]]
    silent: list[int]
    history: str
    nodes_revision: int = 0
    checks_revision: int = 0
    node_floor: int = 0
    node_revisions: list[tuple[str, int]] = []


class _GuardRow(msgspec.Struct, array_like=True, tag=0):
    """The head of a guard; its users and roles follow as the facts that put them."""

    space: str
    enabled: bool
    since: int
    revision: int
    alarms: tuple[Alarm, ...]


_GuardItem = _GuardRow | UserPut | KeyRolePut


class _ServiceRow(msgspec.Struct, array_like=True):
    key: ServiceKey
    revision: int
    explicit: bool
    metadata: dict[str, str]
    settings: ServiceSettings
    log: list[tuple[int, str]]
    log_after: int
    gone: list[tuple[str, int]]


_LeaseRow = tuple[int, int, str, int, LeaseKind, int, bool, int, int]
"""Id, TTL (ms), owner, epoch, kind, granted_at, own, lapsed_at, disconnected_at."""


Item = TypeVar("Item")


def dump_state(state: State) -> Iterator[bytes]:
    """The state as it is now, in chunks. Draw them whenever there is time; commits meanwhile do not show in them."""
    head = _Head(
        FORMAT,
        state.position,
        state.time_ms,
        state.stamp,
        state.stamp_node,
        state.removed_floor,
        state.listing_floor,
        state.access_enabled,
        _gone(state.ephemeral),
        list(state.listings.items()),
        list(state.silent),
        state.history,
        state.book.nodes_revision,
        state.book.checks_revision,
        state.book.node_floor,
        list(state.book.node_revisions.items()),
    )
    # From here on whoever changes a service or lease changes a copy.
    state.generation += 1
    return _chunks(
        head,
        leases=list(state.leases.values()),
        services=list(state.services.values()),
        spaces=[space.dump() for space in state.spaces.values()],
        others=(
            (b"R", list(state.removed.items())),
            (b"X", list(state.sessions.values())),
            (b"T", list(state.tokens.values())),
            (b"P", list(state.policies.values())),
            (b"O", list(state.roles.values())),
            (b"Y", list(state.ties.all if state.ties is not None else ())),
            (b"G", [item for guard in state.guards.values() for item in _guard_items(guard)]),
            (b"N", list(state.nodes.values())),
            (b"C", list(state.checks.values())),
        ),
    )


def dump_space(state: State, name: str) -> Iterator[bytes]:
    """One key space as a state of its own, in chunks as from ``dump_state``: the keys and their history, the leases they
    hang on or may, and the users and roles of its guard. Of ties only those are in it that show instances as keys here:
    the instances are not, so whoever takes it for a state has to end these ties.
    """
    # Nobody who watched the whole may take the part for it: it is another history.
    history = f"{state.history}/{name}@{state.position}"
    position = state.position
    head = _Head(
        FORMAT, position, state.time_ms, state.stamp, state.stamp_node, position, position, False, [], [], [], history
    )  # fmt: skip
    space, guard = state.spaces.get(name), state.guards.get(name)
    leases = [lease for lease in state.leases.values() if lease.kind is LeaseKind.KEYS and not lease.sessions]
    ties = state.ties.exports_in.get(name, ()) if state.ties is not None else ()
    return chain(
        (b"H" + _encode(head),),
        [b"L" + _encode(rows) for rows in _batches(map(_space_lease_row, leases))],
        [b"Y" + _encode(ties)] if ties else (),
        [b"G" + _encode(rows) for rows in _batches(_guard_items(guard))] if guard is not None else (),
        (b"K" + _encode(record) for record in (space.dump() if space is not None else ())),
        (b"E" + _encode(position),),
    )


def _space_lease_row(lease: Lease) -> _LeaseRow:
    return (lease.id, lease.ttl_ms, lease.owner, lease.epoch, lease.kind, lease.granted_at, False, 0, 0)


def _guard_items(guard: Guard) -> Iterator[_GuardItem]:
    yield _GuardRow(guard.space, guard.enabled, guard.since, guard.revision, tuple(sorted(guard.alarms)))
    for user in guard.users.values():
        yield UserPut(user, False)
    for role in guard.roles.values():
        yield KeyRolePut(role)


def _gone(tally: Tally) -> list[Any]:
    return list(tally.gone.items()) if tally.gone is not None else []


def _chunks(
    head: _Head,
    *,
    leases: list[Lease],
    services: list[Service],
    spaces: list[Iterator[Sequence[object]]],
    others: Sequence[tuple[bytes, list[Any]]],
) -> Iterator[bytes]:
    yield b"H" + _encode(head)
    instances = (instance for service in services for instance in service.instances.values())
    sections: Sequence[tuple[bytes, Iterable[Any]]] = (
        (b"L", map(_lease_row, leases)),
        (b"S", map(_service_row, services)),
    )
    for code, items in sections:
        for rows in _batches(items):
            yield code + _encode(rows)
    for batch in _batches(instances):
        yield b"I" + _encode(pack_instances(batch))
    for code, items in others:
        for rows in _batches(items):
            yield code + _encode(rows)
    for records in spaces:
        for record in records:
            yield b"K" + _encode(record)
    yield b"E" + _encode(head.position)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _CHUNK_COUNT)):
        yield batch


def _lease_row(lease: Lease) -> _LeaseRow:
    return (
        lease.id,
        lease.ttl_ms,
        lease.owner,
        lease.epoch,
        lease.kind,
        lease.granted_at,
        lease.own,
        lease.lapsed_at,
        lease.disconnected_at,
    )


def _service_row(service: Service) -> _ServiceRow:
    return _ServiceRow(
        service.key,
        service.revision,
        service.explicit,
        service.metadata,
        service.settings,
        service.log,
        service.log_after,
        _gone(service.tally),
    )


def load_state(chunks: Iterable[bytes]) -> State:
    """The state of a snapshot. Raises Damaged when the chunks are not a whole one, or of a newer format."""
    state = State()
    iterator = iter(chunks)
    try:
        _load_head(state, next(iterator, b""))
        chunk = section = b""
        for chunk in iterator:
            section = chunk[:1]
            if section == b"E":
                break
            if section == b"K":
                _load_space(state, chunk, iterator)
            else:
                decoder, load = _SECTIONS[section]
                load(state, decoder.decode(memoryview(chunk)[1:]))
        if section != b"E" or chunk[1:] != _encode(state.position) or next(iterator, None) is not None:
            raise Damaged("the snapshot is not complete", position=state.position)
        _derive(state)
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError, IndexError) as exc:
        raise Damaged(f"the snapshot cannot be read: {exc}", position=state.position) from exc
    return state


def _load_head(state: State, chunk: bytes) -> None:
    if chunk[:1] != b"H":
        raise Damaged("the snapshot does not begin with its head", position=0)
    head = msgspec.msgpack.decode(memoryview(chunk)[1:], type=_Head)
    if head.format != FORMAT:
        raise Damaged(f"the snapshot has format {head.format}, this version reads {FORMAT}", position=head.position)
    state.position = head.position
    state.time_ms = head.time_ms
    state.stamp = head.stamp
    state.stamp_node = head.stamp_node
    # Not kept: a number that is too high only lets a watcher look once more.
    state.sessions_revision = head.position
    state.removed_floor = head.removed_floor
    state.listing_floor = head.listing_floor
    state.access_enabled = head.access_enabled
    state.ephemeral.gone = dict(head.gone) or None
    state.listings.update(head.listings)
    state.history = head.history
    state.silent.update(dict.fromkeys(head.silent))
    book = state.book
    book.nodes_revision, book.checks_revision, book.node_floor = (
        head.nodes_revision,
        head.checks_revision,
        head.node_floor,
    )
    book.node_revisions.update(head.node_revisions)


def _load_leases(state: State, rows: list[_LeaseRow]) -> None:
    text, leases, generation = state.interner.text, state.leases, state.generation
    for id_, ttl_ms, owner, epoch, kind, granted_at, own, lapsed_at, disconnected_at in rows:
        leases[id_] = Lease(
            id_, ttl_ms, text(owner), epoch, kind, generation, granted_at, own, lapsed_at, disconnected_at
        )


def _load_services(state: State, rows: list[_ServiceRow]) -> None:
    for row in rows:
        service = state.make_service(row.key)
        service.revision = row.revision
        service.explicit = row.explicit
        service.metadata = state.interner.pairs(row.metadata)
        service.settings = DEFAULT_SETTINGS if row.settings == DEFAULT_SETTINGS else row.settings
        service.log = row.log
        service.log_after = row.log_after
        service.tally.gone = dict(row.gone) or None


def _load_removed(state: State, rows: list[tuple[ServiceKey, RemovedService]]) -> None:
    state.removed.update(rows)


def _load_sessions(state: State, rows: list[Session]) -> None:
    state.sessions.update({session.id: session for session in rows})


def _load_tokens(state: State, rows: list[Token]) -> None:
    state.tokens.update({token.id: token for token in rows})


def _load_policies(state: State, rows: list[Policy]) -> None:
    state.policies.update({policy.name: policy for policy in rows})


def _load_ties(state: State, rows: tuple[Tie, ...]) -> None:
    state.tie(Ties(rows))


def _load_roles(state: State, rows: list[Role]) -> None:
    state.roles.update({role.name: role for role in rows})


def _load_guards(state: State, rows: list[_GuardItem]) -> None:
    for row in rows:
        if isinstance(row, _GuardRow):
            guard = state.guards[row.space] = Guard(row.space)
            guard.enabled, guard.since, guard.revision = row.enabled, row.since, row.revision
            guard.alarms.update(row.alarms)
            continue
        # The one whose head came last, perhaps in an earlier chunk.
        guard = state.guards[next(reversed(state.guards), "")]
        if isinstance(row, UserPut):
            guard.users[row.user.name] = row.user
        else:
            guard.roles[row.role.name] = row.role
    state.note_guards()


def _load_nodes(state: State, rows: list[Node]) -> None:
    pairs = state.interner.pairs
    for node in rows:
        shared = replace(node, tagged_addresses=pairs(node.tagged_addresses), meta=pairs(node.meta))
        state.nodes[node.name] = shared


def _load_checks(state: State, rows: list[Check]) -> None:
    text = state.interner.text
    for check in rows:
        key = None if check.key is None else state.services[check.key].key
        state.book.put(replace(check, node=text(check.node), key=key, name=text(check.name), notes=text(check.notes)))


_SECTIONS: dict[bytes, tuple[msgspec.msgpack.Decoder[Any], Callable[[State, Any], None]]] = {
    b"L": (msgspec.msgpack.Decoder(list[_LeaseRow]), _load_leases),
    b"S": (msgspec.msgpack.Decoder(list[_ServiceRow]), _load_services),
    b"I": (msgspec.msgpack.Decoder(InstanceChunk), load_instances),
    b"R": (msgspec.msgpack.Decoder(list[tuple[ServiceKey, RemovedService]]), _load_removed),
    b"X": (msgspec.msgpack.Decoder(list[Session]), _load_sessions),
    b"T": (msgspec.msgpack.Decoder(list[Token]), _load_tokens),
    b"P": (msgspec.msgpack.Decoder(list[Policy]), _load_policies),
    b"Y": (msgspec.msgpack.Decoder(tuple[Tie, ...]), _load_ties),
    b"O": (msgspec.msgpack.Decoder(list[Role]), _load_roles),
    b"G": (msgspec.msgpack.Decoder(list[_GuardItem]), _load_guards),
    b"N": (msgspec.msgpack.Decoder(list[Node]), _load_nodes),
    b"C": (msgspec.msgpack.Decoder(list[Check]), _load_checks),
}


def _load_space(state: State, first: bytes, chunks: Iterator[bytes]) -> None:
    def records() -> Iterator[Sequence[Any]]:
        chunk = first
        while chunk[:1] == b"K":
            yield read_record(memoryview(chunk)[1:])
            chunk = next(chunks, b"")

    space = Keyspace.load(records())
    state.spaces[space.name] = space


def _derive(state: State) -> None:
    """What follows from the sections together: the indexes of secrets, and what hangs on leases besides instances."""
    state.secrets.update({token.secret_hash: token.id for token in state.tokens.values()})
    for session in state.sessions.values():
        state.bind(session)
        lease = state.leases.get(session.lease)
        if lease is not None:
            lease.sessions = (lease.sessions or set()) | {session.id}
    for space in state.spaces.values():
        for kv in space.leased():
            lease = state.leases.get(kv.lease)
            if lease is not None and lease.keys is None:
                lease.keys = {(space.name, kv.key)}
            elif lease is not None and lease.keys is not None:
                lease.keys.add((space.name, kv.key))
