"""What a mirror knows of its services, as a pure fold over watch events.

A snapshot replaces a service whatever was known: the registry is durable and truthful, so an empty snapshot means that
nothing is registered, and its removal floor, not the client, guards against mass disappearance. The one exception is a
registry that came back without its memory (its history has another name): what it does not know yet is ``retained``
for a while, until the providers have registered again. A
delta at or below the known revision is a repetition (a stream resumes a little early on purpose) and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from townhall.client.records import Instance
from townhall.client.streams import WatchEvent
from townhall.model.instance import ServiceKey

__all__ = ["Change", "Picture", "folded", "picture_of", "retained", "without"]


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


def retained(earlier: Mapping[str, Instance], event: WatchEvent) -> tuple[Mapping[str, Instance], WatchEvent]:
    """Of ``earlier``, what a snapshot or delta says nothing of; and the event as it is with these still there.

    An instance that is told of under its id, or under another id at the same place, is not retained any longer.
    """
    told = (*event.instances, *event.changed)
    ids = {one.id for one in told} | set(event.removed)
    places = {(one.address, one.port) for one in told if one.port}
    left = {name: one for name, one in earlier.items() if name not in ids and (one.address, one.port) not in places}
    if event.kind == "snapshot":
        return left, msgspec.structs.replace(event, instances=(*event.instances, *left.values()))
    moved = tuple(name for name in earlier if name not in left and name not in ids)
    return left, msgspec.structs.replace(event, removed=(*event.removed, *moved))


def without(known: Picture, ids: Iterable[str]) -> Change:
    """The picture when these are gone after all."""
    by_id = dict(known.by_id)
    removed = tuple(one for one in ids if by_id.pop(one, None) is not None)
    return Change(Picture(known.key, known.revision, by_id, tuple(by_id.values())), (), removed)


def _replaced(known: Picture | None, picture: Picture) -> Change | None:
    before: Mapping[str, Instance] = known.by_id if known is not None else {}
    changed = tuple(one for one in picture.instances if before.get(one.id) != one)
    removed = tuple(one for one in before if one not in picture.by_id)
    if known is not None and not changed and not removed and known.revision == picture.revision:
        return None
    return Change(picture, changed, removed)
