"""Instances in a snapshot: what many of them have in common is written, read and shared once per chunk.

A chunk of some hundred instances is four lists: runs of instances of one service, the *looks* (instances without what
is their own), the distinct metadata, and one short row for each instance that points into the others. Reading builds
every instance once, from its look, and counts and attaches it in passing instead of through ``State.store``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from townhall.core.state import Service, State
from townhall.model.instance import CLEAR, PROBED, Instance, ServiceKey, Verdict

__all__ = ["InstanceChunk", "load_instances", "pack_instances"]

_UP = Verdict.UP
_BLANK: dict[str, str] = {}

_Row = tuple[int, int, str, str, int, int, str, str, int, int, int, int, int]
"""Look, metadata (places in their lists), id, address, port, lease, claim, origin, incarnation, registered_at, how far
revision is above incarnation, how far since is above registered_at, stamp."""


class InstanceChunk(msgspec.Struct, array_like=True):
    """Some instances in the order of their services."""

    runs: list[tuple[ServiceKey, int]]
    """Whose the next rows are, and how many."""
    looks: list[Instance]
    metadata: list[dict[str, str]]
    rows: list[_Row]


def pack_instances(instances: Sequence[Instance]) -> InstanceChunk:
    """The instances as a chunk. Those of one service should be neighbours."""
    runs: list[tuple[ServiceKey, int]] = []
    looks: dict[object, tuple[int, Instance]] = {}
    metadata: dict[int, tuple[int, dict[str, str]]] = {}
    rows: list[_Row] = []
    key: ServiceKey | None = None
    begun = 0
    for one in instances:
        if one.key is not key:
            if key is not None:
                runs.append((key, len(rows) - begun))
            key, begun = one.key, len(rows)
        # Shared values are the same object, and comparing what they hold would cost more than a rare double.
        name = _look_name(one)
        look = looks.get(name)
        if look is None:
            look = looks[name] = (len(looks), _look(one))
        about = metadata.get(id(one.metadata))
        if about is None:
            about = metadata[id(one.metadata)] = (len(metadata), one.metadata)
        incarnation, registered_at = one.incarnation, one.registered_at
        rows.append((
            look[0], about[0], one.id, one.address, one.port, one.lease, one.claim, one.origin, incarnation,
            registered_at, one.revision - incarnation, one.since - registered_at, one.stamp,
        ))  # fmt: skip
    if key is not None:
        runs.append((key, len(rows) - begun))
    return InstanceChunk(runs, [look for _, look in looks.values()], [about for _, about in metadata.values()], rows)


def _look_name(one: Instance) -> object:
    return (
        id(one.tags), id(one.ports), id(one.extra), id(one.evidence), id(one.verdict), one.weight, one.enabled,
        one.ready, one.region, one.zone, one.cluster, one.protocol, one.node, one.reason, one.stamp_node,
    )  # fmt: skip


def _look(one: Instance) -> Instance:
    return replace(
        one, key=ServiceKey("", "", ""), id="", address="", port=0, metadata=_BLANK, lease=0, claim="", origin="", incarnation=0,
        registered_at=0, revision=0, since=0, stamp=0,
    )  # fmt: skip


def load_instances(state: State, chunk: InstanceChunk) -> None:
    """Put the instances into a state whose services and leases are there already and nobody else has seen.

    Raises KeyError, IndexError or ValueError when the chunk does not fit them.
    """
    looks = [_shared(state, look) for look in chunk.looks]
    metadata = [state.interner.pairs(about) for about in chunk.metadata]
    if sum(count for _, count in chunk.runs) != len(chunk.rows):
        raise ValueError("a chunk of instances whose rows are not those of its services")
    begun = 0
    for key, count in chunk.runs:
        service = state.services[key]
        _load_run(state, service, chunk.rows[begun : begun + count], looks, metadata)
        begun += count


def _load_run(
    state: State, service: Service, rows: list[_Row], looks: list[Instance], metadata: list[dict[str, str]]
) -> None:
    key, instances, leases = service.key, service.instances, state.leases
    text = state.interner.text
    plain = plain_leased = 0
    before = len(instances)
    for look_at, about_at, id_, address, port, lease_id, claim, origin, incarnation, registered_at, later, since, stamp in rows:  # fmt: skip
        look = looks[look_at]
        lease = leases[lease_id] if lease_id else None
        one = instances[id_] = replace(
            look,
            key=key,
            id=id_,
            address=text(address),
            port=port,
            metadata=metadata[about_at],
            lease=0 if lease is None else lease.id,
            claim=claim and text(claim),
            origin=origin and text(origin),
            incarnation=incarnation,
            registered_at=registered_at,
            # The same object where they are equal, as ``evolve`` leaves them.
            revision=incarnation + later if later else incarnation,
            since=registered_at + since if since else registered_at,
            stamp=stamp,
        )
        if lease is not None:
            if lease.key is None and lease.more is None:
                lease.key, lease.instance = key, id_
            else:
                lease.attach(key, id_)
            lease.held += look.evidence.held
        if look.verdict is _UP and look.evidence is CLEAR:
            plain += 1
            plain_leased += lease is not None
        else:
            service.tally.replace(None, one)
            if lease is not None:
                state.ephemeral.replace(None, one)
        if look.node:
            state.book.join(look.node, (key, id_))
    if len(instances) - before != len(rows):
        raise ValueError("an instance that is there twice")
    state.instance_count += len(rows)
    for tally, count in ((service.tally, plain), (state.ephemeral, plain_leased)):
        tally.callable += count
        tally.expected += count


def _shared(state: State, look: Instance) -> Instance:
    """The look with its values shared as ``evolve`` would have shared them."""
    evidence = look.evidence
    return replace(
        state.interner.instance(look),
        evidence=CLEAR if evidence == CLEAR else PROBED if evidence == PROBED else evidence,
        reason=state.interner.text(look.reason),
        stamp_node=state.interner.text(look.stamp_node),
    )
