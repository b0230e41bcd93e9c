"""Watching many services in one stream of server-sent events, and acknowledging what was applied.

A stream is a cursor: for each service the revision that its peer has been brought to. A pull compares these with the
present and sends what is between, coalesced, so a slow peer costs nothing but its lag.

``id:`` is a promise: "whoever has this event has everything of this stream up to that position". Within one pull the
events are therefore sent in the order of their services' revisions, and of several services changed by one commit
only the last one carries the id. So an event's bytes are the same for every receiver, and a stream that breaks
anywhere resumes without gap.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from townhall.core.live import Subscriber
from townhall.core.queries import Reader
from townhall.face import Headers, Pulled, Reply, Request, Stream, Verb
from townhall.face.native.lease_shapes import AckBody
from townhall.face.native.operations import SCOPE, Operation
from townhall.face.native.rendering import Rendering, encode, position_header
from townhall.face.native.requests import GROUP, NAMESPACE, Choice, Flag, Text, Texts, Whole, whole
from townhall.model import limits, names
from townhall.model.access import Level, Resource
from townhall.model.errors import InvalidField, NotFound, TooLarge
from townhall.model.instance import ServiceKey
from townhall.wire import sse
from townhall.wire.strict_json import Strict

__all__ = ["LEAVING", "STREAM_HEADERS", "ServiceWatch", "Watching", "service_of"]

_ACK: Strict[AckBody] = Strict(AckBody)
_SERVICE = Texts(
    "service", "A service to watch, by name or as `namespace/group/name`.",
    count_max=limits.WATCH_SERVICES_MAX, required=True,
)  # fmt: skip
_SUBSCRIBER = Text(
    "subscriber", "What to call this watcher in the table of subscribers.", size_max=limits.LABEL_SIZE_MAX
)
_ACKNOWLEDGES = Choice("ack", "`explicit`: this watcher will acknowledge what it has applied.", ("", "explicit"))
_HEALTHY = Flag("healthy", "Only instances that may be called.")
_LAST_EVENT = Whole("last_event_id", "Resume after this event; the header Last-Event-ID says the same.")

LEAVING = sse.event("leaving", b"{}")
STREAM_HEADERS: Headers = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))
"""A stream is for one receiver and must not wait in a proxy's buffer."""


class Watching:
    """Handlers of watches, over one ``Rendering``."""

    def __init__(self, rendering: Rendering) -> None:
        self._rendering = rendering
        self._numbers = itertools.count(1)

    def operations(self) -> list[Operation]:
        """The rows of the table."""
        return [
            Operation(
                method="GET", path="/watch", handler=self.watch, summary="Watch services as server-sent events", tag="watch",
                parameters=(*SCOPE, _SERVICE, _SUBSCRIBER, _ACKNOWLEDGES, _HEALTHY, _LAST_EVENT),
                answers={200: "text/event-stream"}, refusals=(413, 429),
                description="Events: `snapshot`, `delta`, `compacted` (a snapshot follows), `ready`, `leaving`.",
            ),
            Operation(
                method="POST", path="/watch/{subscriber}/ack", handler=self.acknowledge, tag="watch", body=AckBody,
                summary="Tell which revisions have been applied", answers={204: None}, refusals=(404, 413),
            ),
        ]  # fmt: skip

    def watch(self, request: Request, reader: Reader) -> Verb:
        """A stream over the services asked for."""
        namespace = names.namespace(NAMESPACE.read(request))
        group = names.namespace(GROUP.read(request), "group")
        services = list(dict.fromkeys(service_of(text, namespace, group) for text in _SERVICE.read(request)))
        for key in services:
            reader.service_revision(key)  # Refused before the stream begins, not in the middle of it.
        name = names.label(_SUBSCRIBER.read(request), "subscriber", empty=True)
        now_ms = request.live.now_ms()
        subscriber = Subscriber(
            id=f"{now_ms:x}-{next(self._numbers)}",
            name=name,
            address=request.peer,
            protocol="native",
            since=now_ms,
            explicit=_ACKNOWLEDGES.read(request) == "explicit",
        )
        watch = ServiceWatch(
            self._rendering, services, resume=_resume(request), healthy=_HEALTHY.read(request), subscriber=subscriber.id
        )
        return Stream(
            interests=services,
            pull=watch.pull,
            headers=(position_header(reader.position), *STREAM_HEADERS),
            heartbeat=sse.HEARTBEAT,
            heartbeat_ms=limits.STREAM_HEARTBEAT_MS,
            subscriber=subscriber,
            services=services,
            leaving=LEAVING,
        )

    def acknowledge(self, request: Request, reader: Reader) -> Verb:
        """Note what a subscriber has applied. A drain rests on it, so it takes the right to watch these services."""
        body = _ACK.decode(request.body)
        if len(body.services) > limits.WATCH_SERVICES_MAX:
            raise TooLarge(f"more than {limits.WATCH_SERVICES_MAX} services", limit=limits.WATCH_SERVICES_MAX)
        revisions: dict[tuple[str, str, str], int] = {
            service_of(name, *_DEFAULT_SCOPE): revision for name, revision in body.services.items()
        }
        for namespace, group, name in revisions:
            reader.require(Resource.SERVICE, Level.READ, f"{namespace}/{group}/{name}")
        subscriber = request.segments["subscriber"]
        if not request.live.acknowledge(subscriber, revisions):
            raise NotFound(f"no subscriber {subscriber[:64]!r} is watching", advice="watch again")
        return Reply(204, b"", (position_header(reader.position),))


_DEFAULT_SCOPE = (NAMESPACE.default, GROUP.default)


def service_of(text: str, namespace: str, group: str) -> ServiceKey:
    """The service that ``name`` or ``namespace/group/name`` stands for. Raises InvalidField."""
    parts = text.split("/")
    if len(parts) == 3:
        namespace, group, text = parts
    elif len(parts) != 1:
        raise InvalidField("service", f"{text[:64]!r} is neither a name nor namespace/group/name")
    return ServiceKey(names.namespace(namespace), names.namespace(group, "group"), names.service(text))


def _resume(request: Request) -> int | None:
    header = request.headers.get("last-event-id")
    # A browser sends the header by itself when it reconnects, so it is newer than the address it was given.
    if header:
        return whole(header, "Last-Event-ID")
    return _LAST_EVENT.given(request)


class ServiceWatch:
    """One peer's place in some services."""

    __slots__ = ("_healthy", "_rendering", "_resume", "_seen", "_services", "_started", "_subscriber")

    def __init__(
        self,
        rendering: Rendering,
        services: Sequence[ServiceKey],
        *,
        resume: int | None,
        healthy: bool,
        subscriber: str,
    ) -> None:
        self._rendering = rendering
        self._services = services
        self._resume = resume
        self._healthy = healthy
        self._subscriber = subscriber
        self._seen: dict[tuple[str, str, str], int] = {}
        self._started = False

    def pull(self, reader: Reader) -> Pulled | None:
        """All that is new to the peer."""
        if not self._started:
            return self._start(reader)
        seen = self._seen
        changed = [(revision, key) for key in self._services if (revision := reader.service_revision(key)) != seen[key]]
        if not changed:
            return None
        if len(changed) == 1:
            # By far the most frequent case, for which the bytes of all receivers are one object.
            revision, key = changed[0]
            data = self._rendering.change_event(reader, key, seen[key], healthy=self._healthy, identified=True)
            seen[key] = revision
            return Pulled(data, {key: revision})
        return self._send(reader, changed, [])

    def _start(self, reader: Reader) -> Pulled:
        position = reader.position
        resume = self._resume
        wanted = []
        known: dict[tuple[str, str, str], int] = {}
        for key in self._services:
            revision = reader.service_revision(key)
            if resume is None or not revision <= resume <= position:
                wanted.append((revision, key))
            else:
                # It has not changed since, so the peer has it as it is.
                known[key] = revision
            # From the peer's future (the registry lost its journal) nothing can be told but a fresh picture.
            self._seen[key] = -1 if resume is None else resume
        self._seen.update(known)
        self._started = True
        about = {"revision": position, "subscriber": self._subscriber, "history": reader.history}
        ready = sse.event("ready", encode(about))
        pulled = self._send(reader, wanted, [sse.identified(ready, position)])
        return Pulled(pulled.data, {**known, **pulled.revisions})

    def _send(self, reader: Reader, changed: list[tuple[int, ServiceKey]], behind: list[bytes]) -> Pulled:
        changed.sort()
        last = len(changed) - 1
        parts = []
        revisions: dict[tuple[str, str, str], int] = {}
        for index, (revision, key) in enumerate(changed):
            final = index == last or changed[index + 1][0] != revision
            parts.append(self._event(reader, key, identified=final))
            self._seen[key] = revisions[key] = revision
        return Pulled(b"".join(parts + behind), revisions)

    def _event(self, reader: Reader, key: ServiceKey, *, identified: bool) -> bytes:
        after = self._seen[key]
        if after < 0:
            return self._rendering.snapshot_event(reader, key, healthy=self._healthy, identified=identified)
        return self._rendering.change_event(reader, key, after, healthy=self._healthy, identified=identified)
