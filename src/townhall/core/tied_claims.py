"""What a command claims beyond its own footprint while ties are in force.

An instance and the keys that it is, or is shown as, change together. So who claims the instance claims the keys, who
claims a key claims the instance that it makes, and who claims a lease, a check or a node claims the instances that
may get another verdict through it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from townhall.core import EVERYTHING, Footprint, KeyRange, Shared
from townhall.core.state import State
from townhall.core.ties import Name, Ties, overlap
from townhall.model.instance import ServiceKey

__all__ = ["with_ties"]

_CLAIMS_COUNT_MAX = 64
"""What would claim more than this is decided alone."""


def with_ties(state: State, ties: Ties, claims: Footprint) -> Footprint:
    """The footprint with what the ties add; EVERYTHING when that is too much."""
    if len(claims) == 1:
        (claim,) = claims
        if type(claim) is KeyRange and _is_no_instance(ties, claim):
            return claims  # Nearly always.
        if claims == EVERYTHING:
            return EVERYTHING
    names: dict[Name, None] = {}
    alone = not any(map(_is_instance, claims))
    for claim in claims:
        if type(claim) is KeyRange and _is_no_instance(ties, claim):
            continue
        for name in _instances(state, ties, claim, alone=alone):
            names[name] = None
            if len(names) > _CLAIMS_COUNT_MAX:
                return EVERYTHING
    if not names:
        return claims
    added: set[Hashable] = set(names)
    for key, id_ in names:
        source = ties.source_of(key, id_)
        if source is not None:
            added.add(KeyRange(source[0].space, source[1]))
        added.update(KeyRange(tie.space, name) for tie, name in ties.shown_as(key, id_))
    return claims | added


def _is_no_instance(ties: Ties, span: KeyRange) -> bool:
    """Whether a claim is one key that makes no instance."""
    return not span.end and not span.start.startswith(ties.prefixes.get(span.space, ()))


def _is_instance(claim: Hashable) -> bool:
    wanted = claim.claim if type(claim) is Shared else claim
    return type(wanted) is tuple and type(wanted[0]) is ServiceKey


def _instances(state: State, ties: Ties, claim: Hashable, *, alone: bool) -> Iterable[Name]:
    """The instances that a command with this claim may change. A lease or key that is relied on changes none.

    ``alone``: the command claims no instance by itself.
    """
    shared = type(claim) is Shared
    wanted = claim.claim if type(claim) is Shared else claim
    if type(wanted) is KeyRange:
        return () if shared else _made_by(state, ties, wanted)
    if type(wanted) is not tuple:
        return ()
    if type(wanted[0]) is ServiceKey:
        return ((wanted[0], wanted[1]),)
    if wanted[0] == "lease" and not shared:
        lease = state.leases.get(wanted[1])
        return lease.attached() if lease is not None else ()
    if wanted[0] == "node":
        return state.book.instances.get(wanted[1], ())
    if wanted[0] == "check":
        return _checked(state, wanted, alone=alone)
    return ()


def _made_by(state: State, ties: Ties, span: KeyRange) -> Iterator[Name]:
    if not span.end:
        name = ties.made_by(span.space, span.start)
        if name is not None:
            yield name
        return
    space = state.spaces.get(span.space)
    for tie in ties.imports.get(span.space, ()):
        found = overlap(tie, span.start, span.end)
        for kv in space.range(*found, limit=_CLAIMS_COUNT_MAX + 1)[0] if space is not None and found else ():
            name = ties.made_by(span.space, kv.key)
            if name is not None:
                yield name


def _checked(state: State, wanted: tuple[Hashable, ...], *, alone: bool) -> Iterable[Name]:
    """Whom a check is about. One that is not there yet is about the instance that its command claims beside it, or
    about the whole node when that claims none: else each new instance with a check would claim all others of its node.
    """
    _, node, id_ = wanted
    check = state.book.checks.get((str(node), str(id_)))
    if check is None and not alone:
        return ()
    if check is not None and check.key is not None:
        return ((check.key, check.instance),)
    return state.book.instances.get(str(node), ())
