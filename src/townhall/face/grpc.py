"""gRPC faces: methods as pure functions from a message to what must be done, with the verbs of all faces.

A handler gets one ``Call`` and returns a verb, and ``serve`` carries it out. What the verbs' fields mean over gRPC:

===========  ========================================================================================================
``Reply``     ``status`` is the ``Code``; ``body`` is the one message of a good answer, or the text of an error;
              ``headers`` go into the trailing metadata
``Submit``    as over HTTP: ``render`` gets one outcome or error per command and returns the next verb
``Park``      as over HTTP; it ends early when the call is cancelled or its deadline (``grpc-timeout``) passes
``Stream``    what ``pull`` gives is whole messages, each with its prefix (``framed``); HTTP/2's windows say when the
              peer keeps up. ``EndOfStream`` ends with ``Code.OK``, any ``TownhallError`` with what ``error`` makes of it
``Duplex``    ``receive`` gets one message at a time, without prefix; the bytes it returns are ``framed``, and so is the
              body of a ``Reply`` that the render of its ``Submit`` gives. A ``Reply`` that is no ``Code.OK`` ends the call.
              When the client has said its last, answers that wait are sent and the call ends with ``Code.OK``, unless
              ``outlives_input``
===========  ========================================================================================================

A duplex stream may follow many things at once (ten thousand etcd watches on one stream): its ``receive`` may return
``Follow`` and ``Unfollow`` beside bytes and ``Submit``. Each ``Follow`` is a cursor of its own: only those that a change
concerns are woken, and ``pull`` is called once after any number of them. After steps with a ``Follow`` it is called as
well, so that nothing is missed between the look and the watch.

While nobody may be answered at once, a call may end early: the client cancels it, its ``grpc-timeout`` passes
(``Code.DEADLINE_EXCEEDED``), or the server stops (``Unavailable`` in the face's words, after ``Stream.leaving``). Then
``Submit.abandoned``, ``Park.abandoned`` and ``Duplex.closed(False)`` are called.

One port may serve a gRPC face beside an HTTP face (etcd's JSON gateway): the builder that a row of ``ops.faces`` names
returns ``Faces`` then. HTTP/1.1 goes to the one and HTTP/2 to the other, told apart by their first bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from townhall.face import Face, Follow, Reply, Unfollow, Verb
from townhall.model.errors import TownhallError

if TYPE_CHECKING:
    from townhall.core.live import Live
    from townhall.core.queries import Reader
    from townhall.model.access import Actor

__all__ = ["Call", "Certified", "Code", "Faces", "Follow", "GrpcFace", "Kind", "Method", "Unfollow", "framed"]


class Code(enum.IntEnum):
    """The status codes of gRPC (grpc/grpc, doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Call(msgspec.Struct, frozen=True):
    """One call, as far as every gRPC face needs it."""

    path: str
    """``/package.Service/Method``."""
    metadata: Mapping[str, str]
    """Names in lower case; repeated fields joined with ','. Values of ``-bin`` names are left in base64."""
    message: bytes
    """The request; b"" for ``Kind.DUPLEX``, whose messages go to ``Duplex.receive``."""
    peer: str
    """The client's ``host:port``."""
    actor: Actor
    """Who calls, resolved by the driver from the face's credentials."""
    live: Live
    certificate: str = ""
    """Common name of the client's certificate, which TLS has verified; '' without one."""


class Kind(enum.IntEnum):
    """What a method takes and gives."""

    UNARY = 0
    SERVER_STREAM = 1
    """One message in, many out."""
    DUPLEX = 2
    """Many in, many out."""


class Method(NamedTuple):
    """One row of a face's table. UNARY returns Reply, Submit or Park; SERVER_STREAM these or Stream; DUPLEX returns Reply,
    Stream or Duplex.
    """

    path: str
    handler: Callable[[Call, Reader], Verb]
    kind: Kind = Kind.UNARY
    message_size_max: int = 0
    """Of one request message; 0 takes the server's own."""


class GrpcFace(Protocol):
    """What ``serve`` needs of a gRPC face."""

    name: str
    methods: Sequence[Method]

    def credentials(self, metadata: Mapping[str, str]) -> str:
        """The secret the client presented, or ''."""
        ...

    def error(self, error: TownhallError, call: Call | None) -> Reply:
        """An error in the protocol's own words: its code and text; ``call`` is None when it could not be read."""
        ...


class Certified(Protocol):
    """What a gRPC face may have besides: clients' certificates say who calls, where no secret is presented."""

    certified_space: str
    """The key space whose users the common names of certificates are."""


class Faces(NamedTuple):
    """What shares one port; one of them may be None."""

    grpc: GrpcFace | None
    http: Face | None = None


def framed(message: bytes) -> bytes:
    """A message with the prefix that gRPC sends before it: not compressed, its length (PROTOCOL-HTTP2.md)."""
    return b"\0" + len(message).to_bytes(4, "big") + message
