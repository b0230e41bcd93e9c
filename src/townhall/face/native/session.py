"""The session that a provider keeps open: renewals go over it, news comes back, and its break tells of a crash.

One POST whose body and answer are both lines of JSON. Lines of the client: ``hello`` first, then ``renew``,
``attach``, ``bye``. Lines of the registry: ``welcome``, ``renewed``, ``drain``, ``forgotten``, ``leaving``.

When the connection breaks without a goodbye, the leases that it carried lose their connection at once. A provider that
reconnects may well be back before its old connection is found to be dead; so each lease belongs to the session that
named it last, and only that one's break counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from townhall.core import Command, Interest, Outcome
from townhall.core.commands import SetConnection
from townhall.core.live import Live
from townhall.core.queries import Reader
from townhall.face import Duplex, EndOfStream, Pulled, Reply, Request, Stream, Submit, Verb
from townhall.face.native import problems
from townhall.face.native.leases import renewal
from townhall.face.native.operations import Operation
from townhall.face.native.rendering import encode, position_header
from townhall.face.native.shapes import Body, Id
from townhall.model import limits, names
from townhall.model.errors import Denied, LeaseNotFound, Malformed, Misuse, TooLarge, TownhallError, Unauthenticated
from townhall.model.instance import ServiceKey
from townhall.wire.strict_json import Strict

__all__ = ["HelloLine", "Session", "SessionLine", "Sessions"]


class HelloLine(Body, frozen=True, kw_only=True):
    """Who the provider is and which leases this connection keeps alive."""

    name: str
    leases: tuple[Id, ...] = ()


class SessionLine(Body, frozen=True, kw_only=True):
    """One line of the client; exactly one member is given."""

    hello: HelloLine | None = None
    renew: tuple[Id, ...] | bool | None = None
    """Leases to renew, or true for all."""
    attach: tuple[Id, ...] | None = None
    """Further leases that this connection keeps alive."""
    bye: bool | None = None
    """The end, on purpose: nothing becomes suspect."""


_LINE: Strict[SessionLine] = Strict(SessionLine, lax=True)
_LEAVING = b'{"leaving":true}\n'


class Sessions:
    """The handler of sessions, and which session each lease belongs to."""

    def __init__(self) -> None:
        self.owner: dict[int, Session] = {}

    def operations(self) -> list[Operation]:
        """The row of the table."""
        return [
            Operation(
                method="POST", path="/session", handler=self.open, summary="A provider's session", tag="leases",
                raw_body="application/x-ndjson", answers={200: "application/x-ndjson"}, duplex=True,
                description="Lines of JSON in both directions over one request: `hello` first, then `renew`, `attach`, "
                "`bye`; back come `welcome`, `renewed`, `drain`, `forgotten`, `leaving`. If the connection breaks without "
                "`bye`, the instances on its leases become suspect at once.",
            )
        ]  # fmt: skip

    def open(self, request: Request, reader: Reader) -> Verb:
        """Open one; it carries nothing until its hello."""
        session = Session(self.owner, request.live)
        stream = Stream(
            interests=session.interests,
            pull=session.pull,
            headers=(position_header(reader.position), (b"cache-control", b"no-store")),
            content_type=b"application/x-ndjson",
            heartbeat=b"\n",
            heartbeat_ms=limits.STREAM_HEARTBEAT_MS,
            leaving=_LEAVING,
        )
        return Duplex(stream, session.receive, session.closed)


class Session:
    """One open session."""

    __slots__ = ("_accepted", "_buffer", "_drains", "_live", "_owner", "_welcomed", "interests", "leases")

    def __init__(self, owner: dict[int, Session], live: Live) -> None:
        self._owner = owner
        self._live = live
        self._buffer = b""
        self._welcomed = False
        self._drains: dict[tuple[ServiceKey, str], int] = {}
        self._accepted: set[int] = set()
        """Leases that the core let it connect: only these become suspect when it breaks."""
        self.interests: list[Interest] = []
        """Grows with every lease; the driver watches what is added."""
        self.leases: dict[int, None] = {}
        """In the order in which they were named."""

    # --- from the client

    def receive(self, reader: Reader, data: bytes) -> Sequence[bytes | Submit]:
        """Take what came in. A line that cannot be accepted ends the stream with its problem as the last line."""
        # A line may come in thousands of pieces; only the newest one can hold its end.
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._buffer + lines[0]
            self._buffer = rest
        else:
            self._buffer += rest
        answers: list[bytes | Submit] = []
        try:
            for line in lines:
                if len(line) > limits.SESSION_LINE_SIZE_MAX:
                    raise _too_long()
                if line.strip():
                    answers += self._line(reader, _LINE.decode(line))
            if len(self._buffer) > limits.SESSION_LINE_SIZE_MAX:
                raise _too_long()
        except TownhallError as error:
            said = b"".join(one for one in answers if isinstance(one, bytes))
            raise EndOfStream(said + _problem_line(error)) from error
        return answers

    def _line(self, reader: Reader, line: SessionLine) -> Sequence[bytes | Submit]:
        given = [name for name in line.__struct_fields__ if getattr(line, name) is not None]
        if len(given) != 1:
            raise Misuse("a line holds exactly one of hello, renew, attach and bye")
        if not self._welcomed and given != ["hello"]:
            raise Misuse("the first line must be hello", field="hello")
        if line.hello is not None:
            return self._hello(reader, line.hello)
        if line.attach is not None:
            return self._attach(reader, line.attach)
        if line.bye is not None:
            self._leave()
            raise EndOfStream
        return self._renew(reader, line.renew)

    def _hello(self, reader: Reader, hello: HelloLine) -> Sequence[bytes | Submit]:
        if self._welcomed:
            raise Misuse("hello was said already", field="hello")
        names.label(hello.name, "name")
        self._welcomed = True
        known, unknown = self._take(reader, hello.leases)
        ttls = [reader.lease(lease).ttl_ms for lease in known]
        welcome = {
            "ttl_ms_min": min(ttls, default=limits.LEASE_TTL_DEFAULT_MS),
            "unknown": [str(lease) for lease in unknown],
        }
        return self._connect(known, encode({"welcome": welcome}) + b"\n")

    def _attach(self, reader: Reader, leases: Sequence[int]) -> Sequence[bytes | Submit]:
        known, unknown = self._take(reader, leases)
        return self._connect(known, renewal(len(leases), unknown) + b"\n")

    def _take(self, reader: Reader, leases: Sequence[int]) -> tuple[list[int], list[int]]:
        if len(self.leases) + len(leases) > limits.SESSION_LEASES_MAX:
            raise TooLarge(f"more than {limits.SESSION_LEASES_MAX} leases", limit=limits.SESSION_LEASES_MAX)
        reader.require_renewal(leases)
        unknown = self._live.renew(leases)
        gone = set(unknown)
        known = [lease for lease in leases if lease not in gone]
        for lease in known:
            if lease not in self.leases:
                self.leases[lease] = None
                self.interests.append(("lease", lease))
            self._owner[lease] = self
        return known, unknown

    def _connect(self, leases: Sequence[int], line: bytes) -> Sequence[bytes | Submit]:
        if not leases:
            return [line]

        def answer(_: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            outcome = outcomes[0]
            if isinstance(outcome, TownhallError):
                return Reply(200, _problem_line(outcome))
            self._accepted.update(leases)
            return Reply(200, line)

        return [Submit([SetConnection(leases=tuple(leases), up=True)], answer)]

    def _renew(self, reader: Reader, wanted: Sequence[int] | bool | None) -> Sequence[bytes]:
        leases = wanted if isinstance(wanted, tuple) else list(self.leases)
        if len(leases) > limits.SESSION_LEASES_MAX:
            raise TooLarge(f"more than {limits.SESSION_LEASES_MAX} leases", limit=limits.SESSION_LEASES_MAX)
        reader.require_renewal(leases)
        return [renewal(len(leases), self._live.renew(leases)) + b"\n"]

    # --- to the client

    def pull(self, reader: Reader) -> Pulled | None:
        """News about the leases: those that have ended, and drains that began on their instances.

        A token that has lost its rights meanwhile ends the session without harm to the instances.
        """
        try:
            return self._news(reader)
        except (Denied, Unauthenticated) as error:
            self._leave()
            raise EndOfStream(_problem_line(error)) from error

    def _news(self, reader: Reader) -> Pulled | None:
        forgotten = []
        lines = []
        drains: dict[tuple[ServiceKey, str], int] = {}
        for lease_id in self.leases:
            try:
                attached = reader.lease(lease_id).attached()
            except LeaseNotFound:
                forgotten.append(lease_id)
                continue
            for key, name in attached:
                evidence = reader.instance(key, name).evidence
                if evidence.draining_at:
                    drains[key, name] = evidence.drain_deadline
                    if self._drains.get((key, name)) != evidence.drain_deadline:
                        told = {"service": key.name, "id": name, "deadline": evidence.drain_deadline}
                        told |= {"namespace": key.namespace, "group": key.group}
                        lines.append(encode({"drain": told}) + b"\n")
        self._drains = drains
        for lease_id in forgotten:
            del self.leases[lease_id]
            if self._owner.get(lease_id) is self:
                del self._owner[lease_id]
        if forgotten:
            lines.append(encode({"forgotten": [str(lease_id) for lease_id in forgotten]}) + b"\n")
        return Pulled(b"".join(lines)) if lines else None

    def closed(self, clean: bool) -> Sequence[Command]:
        """The connection is gone; unless that was meant, what is still ours is no longer connected."""
        left = [lease for lease in self._leave() if lease in self._accepted]
        return [] if clean or not left else [SetConnection(leases=tuple(left), up=False)]

    def _leave(self) -> list[int]:
        mine = [lease for lease in self.leases if self._owner.get(lease) is self]
        for lease in mine:
            del self._owner[lease]
        self.leases.clear()
        return mine


def _problem_line(error: TownhallError) -> bytes:
    return b'{"error":%b}\n' % encode(problems.problem(error))


def _too_long() -> Malformed:
    return Malformed(f"a line is longer than {limits.SESSION_LINE_SIZE_MAX} bytes", limit=limits.SESSION_LINE_SIZE_MAX)
