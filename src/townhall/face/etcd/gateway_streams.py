"""Streaming methods over HTTP: messages out as ``{"result":…}`` lines, JSON objects in, one after the other.

A method's stream gives framed messages; here each becomes a line. A method that takes many messages gets one for each
object of the body, as soon as it is whole. HTTP has one cursor for a stream, so whatever a method follows is followed
together, and all of it is told to look at each wake-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from townhall.core import Interest, Outcome
from townhall.core.queries import Reader
from townhall.face import Duplex, EndOfStream, Follow, Pulled, Reply, Stream, Submit, Unfollow, Verb
from townhall.face.etcd.gateway_json import error_body
from townhall.model import limits
from townhall.model.errors import Malformed, TownhallError

__all__ = ["Objects", "Render", "duplex", "lines", "stream"]

_OPEN, _QUOTE, _BACKSLASH = b'{"\\'
_OPENING, _CLOSING, _BEFORE = b"{[", b"}]", b"{ \t\r\n,"
Render = Callable[[bytes], bytes]
"""A message's protobuf bytes to JSON, or JSON to protobuf bytes."""


def lines(data: bytes, render: Render) -> bytes:
    """Framed messages as lines."""
    return b"".join(b'{"result":%b}\n' % render(message) for message in _messages(data))


def _messages(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 5], "big")
        yield data[at + 5 : at + 5 + size]
        at += 5 + size


def stream(found: Stream, render: Render) -> Stream:
    """A stream of messages as one of lines."""

    def pull(reader: Reader) -> Pulled | None:
        try:
            pulled = found.pull(reader)
        except EndOfStream as end:
            raise EndOfStream(lines(end.data, render)) from end
        return None if pulled is None else pulled._replace(data=lines(pulled.data, render))

    return Stream(
        found.interests,
        pull,
        content_type=b"application/json",
        heartbeat=lines(found.heartbeat, render),
        heartbeat_ms=found.heartbeat_ms,
        tick=found.tick,
        leaving=lines(found.leaving, render),
    )


class Objects:
    """Finds whole JSON objects in bytes that come in pieces."""

    __slots__ = ("_depth", "_escaped", "_held", "_looked", "_quoted")

    def __init__(self) -> None:
        self._held = bytearray()
        self._looked = 0
        self._depth = 0
        self._quoted = self._escaped = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The objects that are whole now, each to be taken before the next is looked for.

        Raises Malformed for what is no object, and for one that is too large.
        """
        self._held += data
        start = 0
        for at in range(self._looked, len(self._held)):
            byte = self._held[at]
            if self._depth == 0:
                if byte not in _BEFORE:
                    raise Malformed("proto: syntax error: expected an object")
                start = at
                self._depth += byte == _OPEN
            elif self._quoted:
                if self._escaped:
                    self._escaped = False
                else:
                    self._escaped = byte == _BACKSLASH
                    self._quoted = byte != _QUOTE
            elif byte == _QUOTE:
                self._quoted = True
            elif byte in _OPENING:
                self._depth += 1
            elif byte in _CLOSING:
                self._depth -= 1
                if self._depth == 0:
                    yield bytes(self._held[start : at + 1])
                    start = at + 1
        del self._held[:start]
        self._looked = len(self._held)
        if self._looked > limits.GATEWAY_OBJECT_SIZE_MAX:
            raise Malformed("the object is too large", limit=limits.GATEWAY_OBJECT_SIZE_MAX)

    def end(self) -> None:
        """Nothing more comes. Raises Malformed within an object."""
        if self._depth:
            raise Malformed("unexpected EOF")


class _Conversation:
    """One method that takes and gives many messages."""

    def __init__(self, found: Duplex, read: Render, render: Render, tell: Callable[[TownhallError], bytes]) -> None:
        self.found = found
        self.read = read
        self.render = render
        self.tell = tell
        self.objects = Objects()
        self.interests: list[Interest] = list(found.stream.interests)
        self.follows: dict[object, Follow] = {}

    def pull(self, reader: Reader) -> Pulled | None:
        for follow in self.follows.values():
            follow.wake()
        return stream(self.found.stream, self.render).pull(reader)

    def receive(self, reader: Reader, data: bytes) -> Sequence[bytes | Submit]:
        answers: list[bytes | Submit] = []
        try:
            for body in self.objects.feed(data):
                for step in self.found.receive(reader, self.read(body)):
                    self._take(step, answers)
        except Malformed as error:
            told = b"".join(answer for answer in answers if isinstance(answer, bytes))
            raise EndOfStream(told + self._line(error)) from error
        return answers

    def ended(self) -> None:
        try:
            self.objects.end()
        except Malformed as error:
            raise EndOfStream(self._line(error)) from error

    def _line(self, error: TownhallError) -> bytes:
        return b'{"error":%b}\n' % self.tell(error)

    def _take(self, step: bytes | Submit | Follow | Unfollow, answers: list[bytes | Submit]) -> None:
        if isinstance(step, bytes):
            answers.append(lines(step, self.render))
        elif isinstance(step, Submit):
            answers.append(Submit(step.commands, self._rendering(step), step.abandoned))
        elif isinstance(step, Follow):
            self.follows[step.name] = step
            # What is followed no more stays in the list: the driver looks at its length, and a wake-up too many is harmless.
            self.interests.append(step.interest)
        else:
            self.follows.pop(step.name, None)

    def _rendering(self, submit: Submit) -> Callable[[Reader, Sequence[Outcome | TownhallError]], Verb]:
        def render(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Verb:
            reply = submit.render(reader, results)
            assert isinstance(reply, Reply)
            if reply.status:
                return Reply(200, b'{"error":%b}\n' % error_body(reply.status, reply.body.decode()))
            return Reply(200, lines(reply.body, self.render))

        return render


def duplex(found: Duplex, read: Render, render: Render, tell: Callable[[TownhallError], bytes]) -> Duplex:
    """A method of many messages as objects in and lines out. ``tell`` makes JSON of an error."""
    conversation = _Conversation(found, read, render, tell)
    first = found.stream
    return Duplex(
        Stream(
            conversation.interests,
            conversation.pull,
            content_type=b"application/json",
            heartbeat=lines(first.heartbeat, render),
            heartbeat_ms=first.heartbeat_ms,
            tick=first.tick,
            leaving=lines(first.leaving, render),
        ),
        conversation.receive,
        found.closed,
        outlives_input=found.outlives_input,
        ended=conversation.ended,
    )
