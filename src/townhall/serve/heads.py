"""From the bytes of a head to a plan: what is asked for, by whom, and how it must be answered.

httptools (llhttp) takes the head apart; the checks of ``wire.http1`` stand before it, on the raw bytes, and after it, on
the fields. Both must agree that a head is valid. A parser lives for one head only: bodies are framed by ``wire.http1_reader``, so
no state of it outlives a message, and a parked connection holds none.

A client sends the same bytes again and again, so plans are remembered by them. Nothing in a plan depends on anything
but those bytes and the face's tables, which are fixed. Many clients differ only in the target, or ask for another one
each time; so what was found in the fields is remembered as well, by method and bytes of the fields, and a plain target
before known fields is all that is read of such a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import httptools

from townhall.face import Face, Handler, Reply
from townhall.face.routing import Match, Router
from townhall.model.errors import TownhallError
from townhall.model.limits import HEAD_MEMO_SIZE_MAX
from townhall.serve.options import HttpOptions
from townhall.wire.http1 import (
    accepts_gzip,
    body_length,
    check_head,
    check_host,
    decode_path,
    parse_query,
    plain_line,
    refusal,
    split_target,
)

if TYPE_CHECKING:
    from townhall.serve.replies import Rendered

__all__ = ["Heads", "Plan"]

_UNROUTED_BODY_SIZE_MAX = 65_536
"""What is read of the body of a request that leads nowhere, so that its connection can go on."""
_FIELDS_MEMO_COUNT_MAX: Final = 4_096
"""Header sections remembered: they differ by the client, its tokens and the length of the body."""

_WAYS_COUNT_MAX: Final = 4_096
"""Paths remembered, decoded, with the route that they take."""


class _Fields(NamedTuple):
    """What the fields of a head say."""

    headers: dict[str, str]
    length: int
    old: bool
    gzip: bool
    keep_alive: bool
    expects_continue: bool


class Plan:
    """One head, read. Everything but ``rendered`` stays as it was built."""

    __slots__ = (
        "duplex", "expects_continue", "fixed", "gzip", "handler", "headers", "keep_alive", "key", "length", "method",
        "old", "path", "query", "rendered", "secret", "segments", "size_max",
    )  # fmt: skip

    method: str
    path: str
    segments: Mapping[str, str]
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    length: int
    """Of the body; ``CHUNKED`` when it says so itself."""
    old: bool
    """HTTP/1.0: no chunks, and the connection ends unless asked otherwise."""
    keep_alive: bool
    expects_continue: bool
    gzip: bool
    secret: str
    """The credentials, '' for none."""
    handler: Handler | None
    fixed: Reply | None
    """The answer, when no handler is needed: no such route, OPTIONS."""
    size_max: int
    """Of the body."""
    duplex: bool
    key: tuple[object, ...] | None
    """What an answer to this may be remembered under; None when it may not."""
    rendered: Rendered | None
    """The remembered answer, as far as this plan knows."""


class _Sink:
    """Collects what httptools finds."""

    __slots__ = ("complete", "fields", "url")

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


class Heads:
    """Reads heads for one face and remembers the small ones.

    The memory has two generations: when the young one is full it becomes the old one, and what is asked for moves back.
    """

    def __init__(self, face: Face, options: HttpOptions) -> None:
        self.face = face
        self.router = Router(face.routes)
        self.options = options
        self.young: dict[bytes, Plan] = {}
        """Read by the connection's shortest path, too."""
        self._old: dict[bytes, Plan] = {}
        self._fields: dict[tuple[bytes, bytes], _Fields] = {}
        self._ways: dict[tuple[str, str], tuple[str, Match]] = {}
        self._half = max(options.head_memo_count_max // 2, 1)
        self._methods = tuple(sorted({route.method for route in face.routes} | {"HEAD", "OPTIONS"}))

    def plan(self, raw: bytes) -> Plan:
        """The plan for a head, from memory or read anew. Raises ``Misuse`` with ``http_status``."""
        plan = self.young.get(raw)
        if plan is not None:
            return plan
        plan = self._old.get(raw)
        if plan is None:
            plan = self._read(raw)
        if len(raw) <= HEAD_MEMO_SIZE_MAX:
            if len(self.young) >= self._half:
                # The dictionary object stays, because connections hold it.
                self._old = self.young.copy()
                self.young.clear()
            self.young[raw] = plan
        return plan

    def _read(self, raw: bytes) -> Plan:
        line = plain_line(raw, target_size_max=self.options.target_size_max)
        if line is None:
            return self._read_anew(raw)[0]
        method, target, rest = line
        fields = self._fields.get((method, rest))
        if fields is not None:
            return self._build(method.decode("ascii"), target, fields)
        plan, fields = self._read_anew(raw)
        if len(rest) <= HEAD_MEMO_SIZE_MAX:
            if len(self._fields) >= _FIELDS_MEMO_COUNT_MAX:
                self._fields.clear()
            self._fields[method, rest] = fields
        return plan

    def _read_anew(self, raw: bytes) -> tuple[Plan, _Fields]:
        check_head(raw, count_max=self.options.header_count_max)
        sink = _Sink()
        parser = httptools.HttpRequestParser(sink)
        failure: Exception | None = None
        try:
            parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # RFC 9110 §7.8: an upgrade may be ignored, and we always do.
        except httptools.HttpParserInvalidMethodError as error:
            raise refusal(501, "an unknown method") from error
        except httptools.HttpParserError as error:
            failure = error
        old = raw.find(b" HTTP/1.0\r\n") >= 0 and raw.partition(b"\r\n")[0].endswith(b" HTTP/1.0")
        # Our own check first: it says more exactly what is wrong with a length or coding that httptools refuses.
        length = body_length(sink.fields, old=old)
        if failure is not None or not sink.complete:
            raise refusal(400, str(failure or "an incomplete header")) from failure
        if len(sink.url) > self.options.target_size_max:
            raise refusal(414, "the request target is too long", limit=self.options.target_size_max)
        check_host(sink.fields, required=not old)
        method = parser.get_method().decode("ascii")
        # The target comes first: what is wrong with it is told rather than what is wrong with the fields.
        split_target(method, sink.url)
        headers = _join(sink.fields)
        connection = {option.strip() for option in headers.get("connection", "").lower().split(",")}
        fields = _Fields(
            headers,
            length,
            old,
            gzip=accepts_gzip(headers.get("accept-encoding", "")),
            keep_alive="close" not in connection and (not old or "keep-alive" in connection),
            expects_continue=_expects_continue(headers, old=old),
        )
        return self._build(method, sink.url, fields), fields

    def _build(self, method: str, target: bytes, fields: _Fields) -> Plan:
        raw_path, raw_query = split_target(method, target)
        plan = Plan()
        plan.method = method
        plan.query = parse_query(raw_query) if raw_query else {}
        headers, length, plan.old, plan.gzip, plan.keep_alive, plan.expects_continue = fields
        plan.headers, plan.length = headers, length
        plan.rendered = None
        plan.key = None
        plan.secret = ""
        self._route(plan, raw_path)
        if plan.fixed is None and method == "GET" and length == 0:
            plan.key = (
                target, plan.secret, plan.gzip, headers.get("accept", ""), headers.get("if-none-match", ""),
            )  # fmt: skip
        return plan

    def _route(self, plan: Plan, raw_path: str) -> None:
        plan.duplex = False
        plan.size_max = min(_UNROUTED_BODY_SIZE_MAX, self.options.body_size_max)
        plan.handler = None
        plan.fixed = None
        if raw_path == "*":
            plan.path, plan.segments = raw_path, {}
            plan.fixed = _options(self._methods)
            return
        way = self._ways.get((plan.method, raw_path))
        plan.path, match = way or self._find_way(plan, raw_path)
        plan.segments, route = match.segments, match.route
        if route is None:
            if plan.method == "OPTIONS" and match.allowed:
                plan.fixed = _options(match.allowed)
            else:
                plan.fixed = self.face.no_route(plan.method, plan.path, match.allowed)
            return
        plan.handler = route.handler
        plan.duplex = route.duplex
        plan.size_max = min(route.body_size_max, self.options.body_size_max)
        try:
            plan.secret = self.face.credentials(plan.headers, plan.query)
        except TownhallError as error:
            plan.fixed = self.face.error(error, None)

    def _find_way(self, plan: Plan, raw_path: str) -> tuple[str, Match]:
        parts = decode_path(raw_path)
        way = "/" + "/".join(parts), self.router.match(plan.method, parts)
        if plan.query and len(raw_path) <= HEAD_MEMO_SIZE_MAX:
            # Who waits asks with another index each time, but of the same path.
            if len(self._ways) >= _WAYS_COUNT_MAX:
                self._ways.clear()
            self._ways[plan.method, raw_path] = way
        return way


def _options(methods: Sequence[str]) -> Reply:
    return Reply(204, headers=((b"Allow", ", ".join(methods).encode("ascii")),))


def _join(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        present = headers.get(name)
        headers[name] = value if present is None else f"{present}, {value}"
    return headers


def _expects_continue(headers: Mapping[str, str], *, old: bool) -> bool:
    expectation = headers.get("expect")
    if expectation is None or old:
        return False
    if expectation.lower() != "100-continue":
        raise refusal(417, "an unknown expectation")
    return True
