"""Reads with Consul's headers, which may block until an index has moved on.

``index`` says quickly how new the answer is, ``render`` makes its bytes. An answer carries a view, so that the driver
serves the same bytes again until something in its interests changes. A read with ``?index`` is parked, and a wake-up
that did not move the index past the client's costs one look at a number; one that did makes the answer for the first of
all who wait with the same words, and the others get the same bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import msgspec

from townhall.core import Interest, View
from townhall.core.queries import Reader
from townhall.face import Alike, Headers, Park, Reply, Request, Verb
from townhall.face.consul.requests import ReadOptions

__all__ = [
    "Read",
    "answer",
    "encode",
    "filtered",
    "headers_of",
    "json_reply",
    "parked",
    "policy",
    "pretty",
    "wait_with_jitter",
]

encode: Callable[[object], bytes] = msgspec.json.Encoder().encode
_ACCESS: Interest = ("access", "")
"""Who may see what is part of every answer."""
_JITTER_FRACTION = 16
_ALLOW = (b"X-Consul-Default-ACL-Policy", b"allow")
_DENY = (b"X-Consul-Default-ACL-Policy", b"deny")
_FILTERED: Headers = ((b"X-Consul-Results-Filtered-By-ACLs", b"true"),)
_FIXED = {
    name: (
        (b"X-Consul-Effective-Consistency", name.encode()),
        (b"X-Consul-KnownLeader", b"true"),
        (b"X-Consul-LastContact", b"0"),
        (b"X-Consul-Query-Backend", b"blocking-query"),
    )
    for name in ("leader", "consistent", "stale")
}


class Read(msgspec.Struct, frozen=True):
    """A read that may block."""

    interests: Sequence[Interest]
    index: Callable[[Reader], int]
    """The index of the answer; 0 is sent as 1."""
    render: Callable[[Reader], bytes | Reply]
    """The JSON of the answer, compact; or a whole reply (its headers are added to, a 404 of ours among them)."""


def policy(reader: Reader) -> tuple[bytes, bytes]:
    """Consul's header about what happens without a matching rule."""
    return _DENY if reader.state.access_enabled or reader.actor.restricted else _ALLOW


def filtered(reader: Reader) -> Headers:
    """Consul's header about what was left out for want of a right; nobody without a token is told."""
    return _FILTERED if reader.filtered and reader.actor.token_id else ()


def headers_of(reader: Reader, options: ReadOptions, index: int) -> Headers:
    """The headers of every read."""
    shown: Headers = ((b"X-Consul-Index", b"%d" % (index or 1)), *_FIXED[options.consistency], policy(reader))
    if reader.filtered:
        shown = (*shown, *filtered(reader))
    return (*shown, (b"X-Cache", b"HIT"), (b"Age", b"0")) if options.cached else shown


def pretty(body: bytes, *, wanted: bool) -> bytes:
    """Indented by four, with a newline at its end, when ``wanted``."""
    return msgspec.json.format(body, indent=4) + b"\n" if wanted else body


def json_reply(reader: Reader, options: ReadOptions, value: object, status: int = 200) -> Reply:
    """An answer about the agent itself, which has no index."""
    body = pretty(encode(value), wanted=options.pretty)
    return Reply(status, body, (policy(reader), *filtered(reader)))


def wait_with_jitter(request: Request, wait_ms: int) -> int:
    """The wait and up to a sixteenth more, so that clients that came together do not come back together."""
    spread = wait_ms // _JITTER_FRACTION
    if not spread:
        return wait_ms
    return wait_ms + zlib.crc32(b"%b%d" % (request.peer.encode("utf-8", "replace"), request.live.now_ms())) % spread


def answer(request: Request, reader: Reader, options: ReadOptions, read: Read) -> Verb:
    """Answer now, or when the index has passed the client's, or at the end of the wait."""
    if options.index:
        return parked(request, options, read)
    return _reply(reader, options, read, _view(request, options, read))


def parked(request: Request, options: ReadOptions, read: Read) -> Park:
    """The blocking form of a read."""
    asked = options.index

    def attempt(reader: Reader, expired: bool) -> Reply | None:
        if max(read.index(reader), 1) > asked:
            return _reply(reader, options, read, _view(request, options, read))
        # What is told at the deadline may not be remembered: who asks the same next must wait.
        return _reply(reader, options, read, None) if expired else None

    def wait_ms(asker: Request) -> int:
        return wait_with_jitter(asker, options.wait_ms)

    view = _view(request, options, read)
    return Park(read.interests, attempt, wait_ms(request), alike=None if view is None else Alike(view, wait_ms))


def _view(request: Request, options: ReadOptions, read: Read) -> View | None:
    # What a client says about caching decides too, and is no part of what an answer is remembered under.
    return None if options.cached else request.live.view((*read.interests, _ACCESS))


def _reply(reader: Reader, options: ReadOptions, read: Read, view: View | None) -> Reply:
    rendered = read.render(reader)
    headers = headers_of(reader, options, read.index(reader))
    if isinstance(rendered, Reply):
        return Reply(
            rendered.status, rendered.body, (*headers, *rendered.headers), rendered.content_type, rendered.view or view
        )  # fmt: skip
    return Reply(200, pretty(rendered, wanted=options.pretty), headers, view=view)
