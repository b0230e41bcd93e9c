"""What a mirror knows of its services, as a pure fold over watch events.

A snapshot replaces a service whatever was known: the registry is durable and truthful, so an empty snapshot after its
restart means that nothing is registered, and its removal floor, not the client, guards against mass disappearance. A
delta at or below the known revision is a repetition (a stream resumes a little early on purpose) and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from townhall.client.records import Instance
from townhall.client.streams import WatchEvent
from townhall.model.instance import ServiceKey

__all__ = ["Change", "Picture", "folded", "picture_of"]


class Picture(msgspec.Struct, frozen=True):
    """One service at one revision. Never changed, so that it may be kept."""

    key: ServiceKey
    revision: int
    by_id: Mapping[str, Instance]
    instances: tuple[Instance, ...]


class Change(msgspec.Struct, frozen=True):
    """From one picture to the next: instances in their new form, ids that are gone, and the whole."""

    picture: Picture
    changed: tuple[Instance, ...]
    removed: tuple[str, ...]


def picture_of(key: ServiceKey, revision: int, instances: Iterable[Instance]) -> Picture:
    """A picture of these instances."""
    by_id = {instance.id: instance for instance in instances}
    return Picture(key, revision, by_id, tuple(by_id.values()))


def folded(known: Picture | None, event: WatchEvent) -> Change | None:
    """What an event about ``known``'s service makes of it; None when it changes nothing."""
    if event.kind == "snapshot":
        return _replaced(known, picture_of(event.key, event.revision, event.instances))
    if event.kind != "delta" or known is None or event.revision <= known.revision:
        return None
    by_id = dict(known.by_id)
    removed = tuple(one for one in event.removed if by_id.pop(one, None) is not None)
    for instance in event.changed:
        by_id[instance.id] = instance
    return Change(Picture(known.key, event.revision, by_id, tuple(by_id.values())), event.changed, removed)


def _replaced(known: Picture | None, picture: Picture) -> Change | None:
    before: Mapping[str, Instance] = known.by_id if known is not None else {}
    changed = tuple(one for one in picture.instances if before.get(one.id) != one)
    removed = tuple(one for one in before if one not in picture.by_id)
    if known is not None and not changed and not removed and known.revision == picture.revision:
        return None
    return Change(picture, changed, removed)
