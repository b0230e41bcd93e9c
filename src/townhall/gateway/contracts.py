"""Who talks to whom while a request is under way: ``Client`` ← ``exchange.Exchange`` → ``Carrier``.

A client is one request's asker, a carrier is one request's way to an instance; an exchange lies between them, and neither
knows what protocol the other speaks. Heads and fields go by in the forms of ``requests`` and ``answers``, bodies as parts
without any framing. Both are told of the other's pace: who is ``blocked`` gets nothing more until it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from townhall.gateway.answers import AnswerHead
from townhall.gateway.requests import RequestHead

if TYPE_CHECKING:
    from townhall.gateway.endpoint import Endpoint

__all__ = ["Carrier", "Client", "Taker", "Waiter"]


class Client(Protocol):
    """The client's side of an exchange. An answer is ``begin``, ``more`` or nothing, ``end``; or ``refuse``, or ``cut``."""

    @property
    def blocked(self) -> bool:
        """It takes no more bytes for now."""
        ...

    @property
    def unsent(self) -> int:
        """Bytes of the answer that it has not taken yet."""
        ...

    def block(self, authority: bytes, *, expects: bool) -> bytes:
        """The fields that an instance gets (``rendering.field_block``)."""
        ...

    def interim(self, head: AnswerHead) -> None:
        """An answer before the answer (1xx)."""
        ...

    def begin(self, head: AnswerHead, length: int, *, whole: bool) -> None:
        """The head of the answer; ``more`` or ``end`` follows at once. ``whole``: the request's body has come to its end."""
        ...

    def more(self, parts: Sequence[bytes]) -> None:
        """Parts of its body."""
        ...

    def end(self, parts: Sequence[bytes], trailers: bytes) -> None:
        """The last ones; the answer is complete."""
        ...

    def refuse(self, code: str, detail: str) -> None:
        """There is no answer but our own."""
        ...

    def cut(self) -> None:
        """The answer cannot be completed: the client must see that."""
        ...

    def pump(self) -> None:
        """More of the request's body is wanted."""
        ...

    def due(self, when: float) -> None:
        """``expired`` of the exchange is to be called then."""
        ...

    def switched(self, carrier: Carrier, head: AnswerHead, over: Callable[[], None], *, idle_s: float) -> None:
        """The protocol changes: from here on both sides' bytes are passed on as they are, until it is ``over``."""
        ...


class Carrier(Protocol):
    """One request's way to an instance."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it leads."""
        ...

    taker: Taker | None
    """Who is told of what comes; nobody is any more after ``finished`` and ``close``."""
    reused: bool
    """Other requests went this way before, so the instance may have ended it already."""

    @property
    def blocked(self) -> bool:
        """The instance takes no more bytes for now."""
        ...

    @property
    def unsent(self) -> int:
        """Bytes of the request that the instance has not taken yet."""
        ...

    @property
    def trailers(self) -> bytes:
        """The trailer fields of an answer that has ended, as lines."""
        ...

    def send(self, head: RequestHead, target: bytes, block: bytes, body: Sequence[bytes]) -> None:
        """A request's head with as much of its body as is here."""
        ...

    def body(self, data: bytes) -> None:
        """More of it."""
        ...

    def end(self, trailers: bytes) -> None:
        """That was all of it."""
        ...

    def rest(self, rest: bool) -> None:
        """Stop or go on reading."""
        ...

    def finished(self, *, whole: bool) -> None:
        """The answer is complete; ``whole``: so was the request."""
        ...

    def close(self, *, hung: bool = False) -> None:
        """Nothing that comes is wanted any more. ``hung``: nothing came in time, so no other request may go this way."""
        ...


class Taker(Protocol):
    """What a carrier works for."""

    def head_came(self, carrier: Carrier, head: AnswerHead) -> None:
        """A head, final or not. Raises ``PeerMisbehaved`` for one that nobody can use."""
        ...

    def body_came(self, carrier: Carrier, data: bytes, *, ended: bool) -> None:
        """A part of the answer's body, perhaps nothing; always directly after its final head as well."""
        ...

    def broken(self, carrier: Carrier, detail: str) -> None:
        """What came is no answer."""
        ...

    def lost(self, carrier: Carrier, *, untouched: bool, unprocessed: bool) -> None:
        """It ended before the answer did. ``untouched``: not a byte had come; ``unprocessed``: the instance has said that
        it did nothing.
        """
        ...

    def writable(self) -> None:
        """The instance takes bytes again."""
        ...


class Waiter(Protocol):
    """Who asked for a carrier."""

    def connected(self, carrier: Carrier) -> bool:
        """Here is one; False when it is not wanted any more."""
        ...

    def not_connected(self, error: OSError) -> None:
        """There is none to be had."""
        ...
