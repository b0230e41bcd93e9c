"""Decisions about ties, and what ties forbid: whoever wants to change a projection changes what it shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from townhall.core import Context, Decision, commands, facts
from townhall.core.facts import KeyDeleted, KeyPut
from townhall.core.keyspace import Keyspace
from townhall.core.layouts.table import LAYOUTS
from townhall.core.state import State
from townhall.core.ties import Ties, below, instance_of, overlap
from townhall.model import limits, names
from townhall.model.errors import Conflict, InvalidField, OverLimit
from townhall.model.instance import ServiceKey
from townhall.model.keys import KeyValue
from townhall.model.tie import Direction, Tie

__all__ = ["check_ties", "guard_definition", "guard_writes", "put_layouts", "standing_source"]


def check_ties(ties: Sequence[Tie]) -> None:
    """Raise InvalidField unless these ties may be in force together.

    No two prefixes of a space may overlap: a key would be two instances, or an instance would be shown as a key that
    is an instance, for ever.
    """
    if len(ties) > limits.TIES_COUNT_MAX:
        raise InvalidField("layouts", f"{len(ties)} prefixes, at most {limits.TIES_COUNT_MAX}")
    for place, tie in enumerate(ties):
        shown = tie.prefix.decode(errors="backslashreplace")
        names.label(tie.space, "space")
        names.namespace(tie.namespace)
        names.namespace(tie.group, "group")
        if tie.layout not in LAYOUTS:
            raise InvalidField("layout", f"{tie.layout!r} is none", advice=f"use one of {', '.join(LAYOUTS)}")
        if not isinstance(tie.direction, Direction):
            raise InvalidField("direction", f"{tie.direction!r} is none")
        if len(tie.prefix) > limits.SERVICE_SIZE_MAX:
            raise InvalidField("prefix", f"longer than {limits.SERVICE_SIZE_MAX} bytes")
        if tie.direction is Direction.EXPORT and not tie.prefix.endswith(b"/"):
            raise InvalidField("prefix", f"{shown!r} does not end in '/', as one that instances are shown below must")
        for other in ties[:place]:
            if other.space == tie.space and (
                other.prefix.startswith(tie.prefix) or tie.prefix.startswith(other.prefix)
            ):
                raise InvalidField(
                    "prefix", f"{shown!r} overlaps {other.prefix.decode(errors='backslashreplace')!r}",
                    advice="tie each key once",
                )  # fmt: skip


def put_layouts(state: State, command: commands.PutLayouts, context: Context) -> Decision:
    """Put these ties in force. Refused with Conflict while keys of somebody else's lie below a new export."""
    check_ties(command.ties)
    before = state.ties.all if state.ties is not None else ()
    if before == command.ties:
        return Decision(())
    for tie in command.ties:
        space = state.spaces.get(tie.space)
        if tie.direction is Direction.EXPORT and tie not in before and space is not None:
            _guard_empty(state, tie, space)
    return Decision((facts.LayoutsSet(command.ties),))


def _guard_empty(state: State, tie: Tie, space: Keyspace) -> None:
    count = space.count(*below(tie))
    if state.ties is not None:
        spans = (overlap(other, *below(tie)) for other in state.ties.exports_in.get(tie.space, ()))
        count -= sum(space.count(*span) for span in spans if span is not None)
    if count:
        shown = tie.prefix.decode(errors="backslashreplace")
        raise Conflict(
            f"{count} keys of space {space.name!r} lie below {shown!r} already",
            advice="show the catalogue below another prefix, or delete them",
            space=space.name,
        )


def guard_writes(state: State, space: Keyspace, writes: Iterable[KeyPut | KeyDeleted], context: Context) -> None:
    """Raise Conflict for a write of a key that shows an instance, OverLimit for one that would be an instance too many."""
    ties = state.ties
    assert ties is not None
    for write in writes:
        end = write.end if isinstance(write, KeyDeleted) else b""
        for tie in ties.exports_in.get(space.name, ()):
            span = overlap(tie, write.key, end)
            if span is not None and (isinstance(write, KeyPut) or space.count(*span)):
                shown = tie.prefix.decode(errors="backslashreplace")
                raise Conflict(
                    f"the keys below {shown!r} show the catalogue",
                    advice="register or deregister the instance instead",
                    space=space.name,
                )
        if isinstance(write, KeyPut) and state.instance_count >= context.rules.instances_count_max:
            _guard_room(ties, space, write, context)


def _guard_room(ties: Ties, space: Keyspace, write: KeyPut, context: Context) -> None:
    tie = ties.import_of(space.name, write.key)
    if tie is None or space.get(write.key) is not None:
        return
    if instance_of(tie, KeyValue(write.key, write.value, 0, 0, 0)) is not None:
        limit = context.rules.instances_count_max
        raise OverLimit(f"the registry holds {limit} instances already", limit=limit)


def standing_source(state: State, key: ServiceKey, id: str) -> tuple[str, bytes] | None:  # noqa: A002
    """(space, key) of the key that the instance of this name is, when it stands and can be read."""
    ties = state.ties
    source = ties.source_of(key, id) if ties is not None else None
    if source is None:
        return None
    tie, name = source
    space = state.spaces.get(tie.space)
    kv = space.get(name) if space is not None else None
    return (tie.space, name) if kv is not None and instance_of(tie, kv) is not None else None


def guard_definition(state: State, key: ServiceKey, id: str) -> None:  # noqa: A002
    """Raise Conflict when the definition of this instance is a key's."""
    source = standing_source(state, key, id)
    if source is not None:
        space, name = source
        raise Conflict(
            f"instance {id!r} is the key {name.decode(errors='backslashreplace')!r} in space {space!r}",
            advice="write or delete the key",
            space=space,
        )
