"""Answers as bytes, made once and shared by all who ask.

An instance is a value that never changes, so its JSON is kept beside it (a *fragment*), and whatever shows the
instance joins fragments. An answer about a service is kept with the service's revision; an event of a watch with the
revisions it leads from and to. All are plain caches of bounded size: losing an entry costs time, never an answer.

Rights are not looked at here: whoever asks the Reader for a revision has been checked by it, and what is rendered
does not depend on who asks. One ``Rendering`` belongs to one face, because revisions of different registries do not
compare.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from townhall.core.queries import Reader
from townhall.face import Headers, Reply
from townhall.face.native.shapes import InstanceView
from townhall.model import limits
from townhall.model.errors import Compacted
from townhall.model.instance import Instance, ServiceKey
from townhall.wire import sse

__all__ = ["Rendering", "encode", "join_instances", "position_header", "reply", "view_of"]

encode: Callable[[object], bytes] = msgspec.json.Encoder().encode


class _Kept(NamedTuple):
    revision: int
    data: bytes


class _EventName(NamedTuple):
    key: ServiceKey
    after: int
    """-1 for a snapshot."""
    revision: int
    healthy: bool
    identified: bool


def view_of(instance: Instance) -> InstanceView:
    """An instance as it is shown; its claim and its stamp are not."""
    key = instance.key
    lease = instance.lease
    return InstanceView(
        instance.id, key.name, key.namespace, key.group, instance.address, instance.port, instance.ports,
        instance.tags, instance.metadata, instance.weight, instance.region, instance.zone, instance.cluster,
        instance.enabled, lease != 0, str(lease) if lease else None, instance.protocol, instance.origin, instance.node,
        instance.incarnation, instance.registered_at, instance.revision, instance.verdict, instance.reason,
        instance.since, instance.callable, instance.evidence.held,
    )  # fmt: skip


def position_header(position: int) -> tuple[bytes, bytes]:
    """The position at which an answer is true."""
    return (b"x-townhall-revision", b"%d" % position)


def reply(reader: Reader, shown: object, status: int = 200, headers: Headers = ()) -> Reply:
    """An answer with a body made from a Struct (or a mapping), true at the reader's position."""
    return Reply(status, encode(shown), (position_header(reader.position), *headers))


def join_instances(key: ServiceKey, revision: int, fragments: Iterable[bytes]) -> bytes:
    """The object about a service that lists instances."""
    return b'%b,"revision":%d,"instances":[%b]}' % (_service_members(key), revision, b",".join(fragments))


def _service_members(key: ServiceKey) -> bytes:
    return b'{"service":%b,"namespace":%b,"group":%b' % (encode(key.name), encode(key.namespace), encode(key.group))


class Rendering:
    """The rendered forms of one registry's catalogue."""

    __slots__ = ("_answers", "_events", "_fragments")

    def __init__(self) -> None:
        # By identity; the instance is kept beside its bytes, so its identity cannot pass to another one.
        # Ordered ones, because finding the oldest in a dict that only grows at its end means to walk over all its gaps.
        self._fragments: OrderedDict[int, tuple[Instance, bytes]] = OrderedDict()
        self._answers: OrderedDict[tuple[ServiceKey, bool], _Kept] = OrderedDict()
        self._events: OrderedDict[_EventName, bytes] = OrderedDict()

    def fragment(self, instance: Instance) -> bytes:
        """The JSON object of one instance."""
        kept = self._fragments.get(id(instance))
        if kept is not None:
            return kept[1]
        data = encode(view_of(instance))
        if len(self._fragments) >= limits.FRAGMENTS_CACHED_MAX:
            self._fragments.popitem(last=False)
        self._fragments[id(instance)] = (instance, data)
        return data

    def fragments(self, instances: Iterable[Instance]) -> list[bytes]:
        """The JSON objects of some instances, in order."""
        return [self.fragment(instance) for instance in instances]

    def instances(self, reader: Reader, key: ServiceKey, *, healthy: bool) -> bytes:
        """The object of a whole service, or of its callable instances. Raises Denied."""
        revision = reader.service_revision(key)
        kept = self._answers.get((key, healthy))
        if kept is not None and kept.revision == revision:
            return kept.data
        found = reader.instances(key, callable_only=healthy)
        data = join_instances(key, revision, self.fragments(found))
        if len(data) <= limits.ANSWER_CACHED_SIZE_MAX:
            if len(self._answers) >= limits.ANSWERS_CACHED_MAX:
                self._answers.popitem(last=False)
            self._answers[key, healthy] = _Kept(revision, data)
        return data

    def snapshot_event(self, reader: Reader, key: ServiceKey, *, healthy: bool, identified: bool) -> bytes:
        """The ``snapshot`` event of a service, with its revision as id when ``identified``. Raises Denied."""
        revision = reader.service_revision(key)
        name = _EventName(key, -1, revision, healthy, identified)
        return self._events.get(name) or self._keep(name, b"", self._snapshot(reader, key, healthy=healthy))

    def change_event(self, reader: Reader, key: ServiceKey, after: int, *, healthy: bool, identified: bool) -> bytes:
        """What happened to a service since ``after``: a ``delta``, or ``compacted`` and a ``snapshot``. Raises Denied."""
        revision = reader.service_revision(key)
        name = _EventName(key, after, revision, healthy, identified)
        return self._events.get(name) or self._keep(name, *self._change(reader, key, after, healthy=healthy))

    def _keep(self, name: _EventName, before: bytes, last: bytes) -> bytes:
        # Only the last event may carry the id: who has an id has all that came before it.
        data = before + (sse.identified(last, name.revision) if name.identified else last)
        if len(data) <= limits.ANSWER_CACHED_SIZE_MAX:
            if len(self._events) >= limits.ANSWERS_CACHED_MAX:
                self._events.popitem(last=False)
            self._events[name] = data
        return data

    def _snapshot(self, reader: Reader, key: ServiceKey, *, healthy: bool) -> bytes:
        data = self.instances(reader, key, healthy=healthy)
        # Asks for an acknowledgement when something drains, as a delta does.
        if any(instance.evidence.draining_at for instance in reader.instances(key)):
            data = data[:-1] + b',"ack":true}'
        return sse.event("snapshot", data)

    def _change(self, reader: Reader, key: ServiceKey, after: int, *, healthy: bool) -> tuple[bytes, bytes]:
        # The protect threshold may turn the whole list over, of which a delta by instance knows nothing.
        if healthy and reader.settings(key).protect > 0:
            return b"", self._snapshot(reader, key, healthy=True)
        try:
            delta = reader.changes(key, after)
        except Compacted:
            told = b'%b,"revision":%d}' % (_service_members(key), reader.service_revision(key))
            return sse.event("compacted", told), self._snapshot(reader, key, healthy=healthy)
        changed: Sequence[Instance] = delta.changed
        removed = list(delta.removed)
        if healthy:
            removed += [instance.id for instance in changed if not instance.callable]
        shown = [self.fragment(instance) for instance in changed if instance.callable or not healthy]
        ack = b',"ack":true' if any(instance.evidence.draining_at for instance in changed) else b""
        data = b'%b,"revision":%d,"changed":[%b],"removed":%b%b}' % (
            _service_members(key), reader.service_revision(key), b",".join(shown), encode(removed), ack,
        )  # fmt: skip
        return b"", sse.event("delta", data)
