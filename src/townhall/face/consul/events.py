"""``/v1/event``: what somebody fired lately, for whoever asks. The last 256 are kept in a space of their own."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

import msgspec

from townhall.core import KeyRange, Outcome
from townhall.core.commands import Transact, TransactResult
from townhall.core.queries import Reader
from townhall.face import Reply, Request, Route, Submit, Verb
from townhall.face.consul.blocking import Read, answer, encode, json_reply
from townhall.face.consul.errors import bad
from townhall.face.consul.ids import Identifiers
from townhall.face.consul.requests import first, read_options, required
from townhall.face.consul.site import Site, Sited
from townhall.model.errors import TownhallError
from townhall.model.keys import Delete, KeyValue, Operation, Put, Transaction
from townhall.wire.linear_regex import Pattern

__all__ = ["Events", "Fired", "routes"]

_SPACE = "consul.events"
_KEPT_MAX = 256
"""As many as an agent remembers."""
_PAYLOAD_SIZE_MAX = 512
"""What Serf would carry, before its encoding."""
_ALL = (b"\0", b"\0")
_FILTERS = (("node", "node"), ("service", "service"), ("tag", "tag"))


class Fired(msgspec.Struct, frozen=True, array_like=True):
    """An event, as it is kept."""

    id: str
    name: str
    payload: bytes = b""
    node: str = ""
    service: str = ""
    tag: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Fired).decode


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    events = Events(face.site)
    return (
        Route("PUT", "/v1/event/fire/{name...}", events.fire),
        Route("GET", "/v1/event/list", events.listing),
    )


def _shown(event: Fired, time: int) -> dict[str, object]:
    return {
        "ID": event.id, "Name": event.name, "Payload": base64.b64encode(event.payload).decode() or None,
        "NodeFilter": event.node, "ServiceFilter": event.service, "TagFilter": event.tag, "Version": 1, "LTime": time,
    }  # fmt: skip


class Events:
    """Handlers of events."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ids = Identifiers(site.node)

    def fire(self, request: Request, reader: Reader) -> Verb:
        """Keep an event, and forget the oldest beyond what is kept."""
        options = read_options(request, self._site)
        name = required(request, "name", "Missing name")
        payload = request.body
        if len(payload) > _PAYLOAD_SIZE_MAX:
            limit = f"user event exceeds configured limit of {_PAYLOAD_SIZE_MAX} bytes before encoding"
            raise bad(f"error broadcasting event: {limit}")
        filters = [_filter(request, parameter, label) for parameter, label in _FILTERS]
        if filters[2] and not filters[1]:
            raise bad("Cannot provide tag filter without service filter")
        event = Fired(self._ids.new(request, reader), name, payload, *filters)
        # In the order of time, and of coming within one millisecond.
        key = b"%020d/%012d/%b" % (request.live.now_ms(), self._ids.number(), event.id.encode())
        operations: list[Operation] = [Put(key, _encode(event))]
        kept = reader.range(_SPACE, *_ALL).kvs
        operations += [Delete(kv.key) for kv in kept[: max(len(kept) - _KEPT_MAX + 1, 0)]]

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            outcome = outcomes[0]
            if isinstance(outcome, TownhallError):
                raise outcome
            assert isinstance(outcome.result, TransactResult)
            return json_reply(reader, options, _shown(event, 0))

        return Submit((Transact(space=_SPACE, transaction=Transaction(success=tuple(operations))),), render)

    def listing(self, request: Request, reader: Reader) -> Verb:
        """The events kept, oldest first, perhaps of one name only."""
        name = first(request, "name")

        read = Read(
            (KeyRange(_SPACE, *_ALL),),
            lambda reader: max((kv.mod_revision for kv, _ in _kept(reader, name)), default=1),
            lambda reader: encode([_shown(event, kv.mod_revision) for kv, event in _kept(reader, name)]),
        )
        return answer(request, reader, read_options(request, self._site), read)


def _kept(reader: Reader, name: str) -> Iterator[tuple[KeyValue, Fired]]:
    """The events that are kept, of this name or ("") all of them."""
    for kv in reader.range(_SPACE, *_ALL).kvs:
        try:
            event = _decode(kv.value)
        except msgspec.MsgspecError:
            continue  # Somebody wrote it into the space by other means.
        if not name or event.name == name:
            yield kv, event


def _filter(request: Request, parameter: str, label: str) -> str:
    pattern = first(request, parameter)
    if pattern:
        try:
            Pattern(pattern)
        except TownhallError as error:
            raise bad(f"Invalid {label} filter: error parsing regexp: {error.message}") from None
    return pattern
