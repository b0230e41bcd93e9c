"""The ties that the configuration asks for, and how they come into force.

Ties are state, because a replay must read the same keys as the same instances: what is configured is compared with
what stands at every start, and a difference becomes a commit before anybody is let in.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from townhall.core.commands import PutLayouts
from townhall.core.decide_ties import check_ties
from townhall.model.errors import InvalidField, TownhallError
from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE
from townhall.model.tie import Direction, Tie

if TYPE_CHECKING:
    from townhall.core import Outcome
    from townhall.hub.hub import Hub
    from townhall.ops.settings import Layouts

__all__ = ["put_ties", "ties_of"]


def ties_of(layouts: Layouts) -> tuple[Tie, ...]:
    """The settings as ties. Raises InvalidField, whose field is the setting's key, for what cannot be."""
    found: list[Tie] = []
    for name, direction in (("etcd_import", Direction.IMPORT), ("etcd_export", Direction.EXPORT)):
        try:
            found += [
                _tie("etcd", part.strip(), direction) for part in getattr(layouts, name).split(",") if part.strip()
            ]
            check_ties(found)
        except InvalidField as error:
            raise InvalidField(f"layouts.{name}", error.message, advice=error.advice) from error
    return tuple(found)


def _tie(space: str, text: str, direction: Direction) -> Tie:
    where, _, group = text.partition("@")
    prefix, equals, layout = where.rpartition("=")
    if not equals:
        prefix, layout = where, "naming"
    namespace, slash, group = group.rpartition("/")
    return Tie(
        space,
        prefix.strip().encode(),
        layout.strip(),
        direction,
        namespace if slash else DEFAULT_NAMESPACE,
        group or DEFAULT_GROUP,
    )


async def put_ties(hub: Hub, ties: tuple[Tie, ...]) -> TownhallError | None:
    """Put these in force unless they are; returns why not. The hub has been started."""
    from townhall.hub.hub import INTERNAL  # noqa: PLC0415 - beside its one use

    standing = hub.state.ties
    if ties == (standing.all if standing is not None else ()):
        return None
    finished: asyncio.Future[Outcome | TownhallError] = asyncio.get_running_loop().create_future()
    hub.submit(PutLayouts(ties), INTERNAL, finished.set_result)
    result = await finished
    return result if isinstance(result, TownhallError) else None
