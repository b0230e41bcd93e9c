"""Faces: one protocol each, as pure functions from requests to what must be done.

A handler never awaits and never touches a socket: it *returns* a verb, and the driver in ``serve`` carries it out.

=========  ==========================================================================================
``Reply``   answer now
``Submit``  hand commands to the writer, then render their outcomes
``Park``    answer when ``attempt`` gives a reply; try now, after each wake-up of the interests, and at the deadline
``Stream``  send a head, then what ``pull`` gives: now, and after each wake-up; until ``pull`` raises ``EndOfStream``
``Duplex``  like Stream, and what the client sends meanwhile goes to ``receive``
=========  ==========================================================================================

A face is a ``Routes`` table from method and path pattern to handlers. Faces import ``model``, the types of ``core``
and their own ``wire``; never each other, an engine, a hub or asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from townhall.model.errors import TownhallError

if TYPE_CHECKING:
    from townhall.core import Command, Interest, Outcome, View
    from townhall.core.live import Live, Subscriber
    from townhall.core.queries import Reader
    from townhall.model.access import Actor

__all__ = [
    "Alike", "Duplex", "EndOfStream", "Face", "Follow", "Handler", "Park", "Pulled", "Reply", "Request", "Route", "Step",
    "Stream", "Submit", "Unfollow", "Verb",
]  # fmt: skip

Headers = tuple[tuple[bytes, bytes], ...]


class Request(msgspec.Struct, frozen=True):
    """One request, decoded as far as every HTTP face needs it."""

    method: str
    path: str
    """Percent-decoded path without query; see ``segments`` for what the route's pattern matched."""
    segments: Mapping[str, str]
    """Captured parts of the path, percent-decoded one by one, so that a name may hold an escaped slash."""
    query: Mapping[str, Sequence[str]]
    """Decoded query parameters in order; a parameter without '=' has the value ''."""
    headers: Mapping[str, str]
    """Names in lower case; repeated fields joined with ', ' (RFC 9110 §5.3)."""
    body: bytes
    peer: str
    """The client's ``host:port``."""
    actor: Actor
    """Who asks, resolved by the driver from the face's credentials."""
    live: Live
    """What only the running hub knows: soft state that is not in the journal."""


class Reply(msgspec.Struct, frozen=True):
    """A complete answer. The driver adds Content-Length, Date, Connection and, when asked for, gzip."""

    status: int
    body: bytes = b""
    headers: Headers = ()
    content_type: bytes = b"application/json"
    view: View | None = None
    """When set on the answer to a GET, the driver may serve these bytes again, for the same target, credentials and
    Accept fields, as long as the view is fresh."""


class Submit(msgspec.Struct, frozen=True):
    """Commands for the writer, each one its own commit. ``render`` gets one outcome or error per command, in order.

    The commands take effect whether or not the client is still there. When it is gone by then, ``abandoned`` is called
    with the outcomes instead of ``render``; the commands it returns are submitted.
    """

    commands: Sequence[Command]
    render: Callable[[Reader, Sequence[Outcome | TownhallError]], Verb]
    abandoned: Callable[[Sequence[Outcome | TownhallError]], Sequence[Command]] | None = None


class Alike(NamedTuple):
    """How others who ask with the same words and credentials may wait as the first of them does.

    While the view is fresh, its attempt would find for them what it found for the first: that there is nothing to tell.
    So neither it nor the handler is called; what each of them waits at most is asked.
    """

    view: View
    wait_ms: Callable[[Request], int]


class Park(msgspec.Struct, frozen=True):
    """A parked read (long poll). ``attempt(reader, expired)`` returns None to go on waiting; never when expired.

    A reply with a view is given to all that wait with the same target and credentials, as long as the view is fresh; so
    one that only the end of the wait has brought must have none.
    It may return a Submit, when the end of the wait itself must be written. ``abandoned`` is called when the client is
    gone while it waits, or may not wait because too many do; the commands it returns are submitted.
    """

    interests: Sequence[Interest]
    attempt: Callable[[Reader, bool], Reply | Submit | None]
    wait_ms: int
    abandoned: Callable[[], Sequence[Command]] | None = None
    alike: Alike | None = None


class Pulled(NamedTuple):
    """What a stream sends next. ``revisions``: (namespace, group, service) → revision this brings the peer to."""

    data: bytes
    revisions: Mapping[tuple[str, str, str], int] = {}
    more: bool = False
    """There is more already: pull again as soon as the peer has taken this, without waiting for a wake-up."""


class EndOfStream(Exception):
    """Raised by ``pull`` or ``receive`` to end the answer properly; ``data`` is sent first."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__()
        self.data = data


class Stream(msgspec.Struct, frozen=True):
    """An endless answer. ``pull`` is called only while the peer keeps up, so what it returns coalesces by itself."""

    interests: Sequence[Interest]
    pull: Callable[[Reader], Pulled | None]
    """Everything new since the last call; None when nothing is. Called once at the start."""
    headers: Headers = ()
    content_type: bytes = b"text/event-stream"
    heartbeat: bytes = b""
    """Sent when nothing else was for ``heartbeat_ms``."""
    heartbeat_ms: int = 0
    tick: Callable[[], None] | None = None
    """Called every ``heartbeat_ms`` instead, whatever was sent meanwhile; it takes note, and ``pull`` follows."""
    subscriber: Subscriber | None = None
    services: Sequence[tuple[str, str, str]] = ()
    """What it subscribes to, for the table of subscribers."""
    leaving: bytes = b""
    """Sent as the last thing when the server shuts down."""


class Follow(NamedTuple):
    """Watch one more interest from now on. ``wake`` is called at each change before ``pull`` is; it only takes note.

    ``since``, when it is there, is called instead. It gets a revision of the space of a ``KeyRange``: between the last
    wake-up and this revision nothing has happened in the range.
    """

    interest: Interest
    wake: Callable[[], None]
    name: object
    """Names it on this stream for ``Unfollow``. A name that is there already is replaced."""
    since: Callable[[int], None] | None = None


class Unfollow(NamedTuple):
    """Watch it no longer; an unknown name is ignored."""

    name: object


class Duplex(msgspec.Struct, frozen=True):
    """A stream in both directions over one request: chunks in, chunks out.

    ``receive(reader, data)`` takes what came in and returns what to do about it: bytes to send, or a Submit whose
    render returns a Reply (its body is sent). It may append to ``stream.interests`` when that is a list; the driver
    watches what was added from then on, and pulls once. It may raise ``EndOfStream``, which ends cleanly.
    ``closed(clean)`` tells that the peer is gone: ``clean`` when it ended its body properly; the commands it returns
    are submitted.
    """

    stream: Stream
    receive: Callable[[Reader, bytes], Sequence[Step]]
    closed: Callable[[bool], Sequence[Command]]
    outlives_input: bool = False
    """The answer goes on after the client has said its last: ``closed`` waits for the end of the call."""
    ended: Callable[[], None] | None = None
    """Over HTTP: the client has said its last. It may raise ``EndOfStream``: what it said was not whole."""
    again: Callable[[Reader], Callable[[bytes], bytes | None] | None] | None = None
    """Over gRPC, for what comes again and again: with a reader it makes, for one turn and for all calls with the same head
    on a connection, what gives the one answer of ``receive`` to the one message in these framed bytes. None, which has
    had no effect, sends them to ``receive``.
    """


Step = bytes | Submit | Follow | Unfollow
"""What ``receive`` may ask for. ``Follow`` and ``Unfollow`` work over gRPC: see ``face.grpc``."""


Verb = Reply | Submit | Park | Stream | Duplex
Handler = Callable[[Request, "Reader"], Verb]


class Route(NamedTuple):
    """One row of a face's table.

    ``pattern`` is a path such as ``/api/v1/services/{service}/instances/{id}``; a last part ``{name...}`` takes the
    rest of the path, slashes included. ``duplex`` routes get their handler called at the end of the header.
    """

    method: str
    pattern: str
    handler: Handler
    body_size_max: int = 1_048_576
    duplex: bool = False


class Face(Protocol):
    """What ``serve`` needs of an HTTP face."""

    name: str
    routes: Sequence[Route]

    def credentials(self, headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> str:
        """The secret the client presented, or ''."""
        ...

    def error(self, error: TownhallError, request: Request | None) -> Reply:
        """An error in the protocol's own words; ``request`` is None when it could not even be parsed."""
        ...

    def no_route(self, method: str, path: str, allowed: Sequence[str]) -> Reply:
        """404 for an unknown path, 405 (with Allow) when other methods are known for it."""
        ...
