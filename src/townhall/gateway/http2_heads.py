"""Between HTTP/2's heads and those of the rest of the room. Pure.

A request's head is written as HTTP/1.1 would have it and read as strictly as if it had come so: what could not be said in
HTTP/1.1 (a path with a space, two hosts) is refused before it can become two requests there (RFC 9113 §10.3). Raises
``Misuse`` with ``http_status``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from townhall.gateway.answers import BODILESS, UNTIL_CLOSE, AnswerHead
from townhall.gateway.fields import rendered, via
from townhall.gateway.requests import Fields, RequestHead, RequestHeads
from townhall.model.limits import PROXY_MEMO_COUNT_MAX, PROXY_MEMO_SIZE_MAX
from townhall.wire.http1 import refusal
from townhall.wire.http2.frames import Block, block
from townhall.wire.http2.heads import OF_CONNECTIONS, Field, Head

__all__ = ["VARYING", "Http2Heads", "answer_block", "answer_of", "request_block", "trailer_block"]

VARYING: Final = b"grpc-timeout"
"""The one field that clients send anew with each request, which ``wire.http2.memory`` keeps apart."""

_TIMEOUT: Final = re.compile(rb"[0-9]{1,8}[HMSmun]")
VERSION: Final = b"2"


class Http2Heads:
    """Reads requests' heads. What a head became is remembered with it (``Head.plan``)."""

    def __init__(self, heads: RequestHeads, *, header_size_max: int) -> None:
        self._heads = heads
        self._header_size_max = header_size_max

    def read(self, head: Head, varying: bytes, *, ended: bool) -> RequestHead:
        """``ended``: no body follows; ``varying``: the value of that field, b"" for none. Raises ``Misuse``."""
        if varying:
            return self._read(head, varying, ended=ended)
        plans = head.plan
        if type(plans) is not dict:
            head.plan = plans = {}
        found = plans.get(ended)
        if found is None:
            found = plans[ended] = self._read(head, b"", ended=ended)
        assert isinstance(found, RequestHead)
        return found

    def _read(self, head: Head, varying: bytes, *, ended: bool) -> RequestHead:
        if head.size > self._header_size_max:
            raise refusal(431, "the header is too large", limit=self._header_size_max)
        if not head.path.startswith(b"/") and head.path != b"*":
            raise refusal(400, "a :path that is no path")
        lines = [b"%b %b HTTP/1.1\r\n" % (head.method, head.path)]
        lines += [b"%b: %b\r\n" % row for row in _rows(head)]
        if varying:
            if _TIMEOUT.fullmatch(varying) is None:
                raise refusal(400, "a grpc-timeout that is none")
            lines.append(b"%b: %b\r\n" % (VARYING, varying))
        if not ended and head.length < 0:
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        found = self._heads.read(b"".join(lines))
        return RequestHead(found.method, found.target, _over_http2(found.fields))


def _rows(head: Head) -> list[tuple[bytes, bytes]]:
    """The fields as HTTP/1.1 has them: one host, one cookie (RFC 9113 §8.2.3 and §8.3.1)."""
    rows: list[tuple[bytes, bytes]] = []
    cookies: list[bytes] = []
    authority = head.authority
    for name, value in head.fields:
        if name == b"host":
            if authority and value.lower() != authority.lower():
                raise refusal(400, ":authority and Host name different hosts")
            authority = authority or value
        elif name == b"cookie":
            cookies.append(value)
        else:
            rows.append((name, value))
    if authority:
        rows.insert(0, (b"host", authority))
    if cookies:
        rows.append((b"cookie", b"; ".join(cookies)))
    return rows


def _over_http2(fields: Fields) -> Fields:
    """The same fields, said over HTTP/2, whose connections have no fields of their own."""
    found = Fields()
    for name in Fields.__slots__:
        setattr(found, name, getattr(fields, name))
    found.version = VERSION
    found.keep_alive = True
    # The only value that TE may have there (RFC 9113 §8.2.2).
    found.takes_trailers = b"te" in fields.by_name
    return found


def answer_block(head: AnswerHead, length: int, *, name: bytes, ends: bool) -> Block:
    """An answer's head for a client; ``length`` as ``answers.body_length_of`` says. ``ends``: nothing follows it."""
    key = (length, name, ends)
    known = head.blocks.get(key)
    if known is None:
        known = _answer_block(head, length, name=name, ends=ends)
        head.blocks[key] = known
    return known


def _answer_block(head: AnswerHead, length: int, *, name: bytes, ends: bool) -> Block:
    rows = [(b":status", b"%d" % head.status), *_rows_of(head.onward)]
    if head.status >= 200:
        rows += _rows_of(via(head.via, version=head.version, name=name))
        if 0 < length < UNTIL_CLOSE:
            rows.append((b"content-length", b"%d" % length))
        elif not length and head.announced and head.status != 204:
            rows.append((b"content-length", head.announced))
    return block(rows, ends=ends)


def answer_of(status: int, rows: Sequence[Field], *, ended: bool) -> AnswerHead:
    """The head of an instance's answer; its fields were checked. ``ended``: nothing follows it."""
    head = AnswerHead()
    head.status = status
    head.reason = head.takes_upgrade = b""
    head.announced = next((value for name, value in rows if name == b"content-length"), b"")
    length = int(head.announced) if head.announced else 0 if ended else UNTIL_CLOSE
    head.length = 0 if status in BODILESS else length
    head.keep_alive = True
    head.via = b", ".join([value for name, value in rows if name == b"via"])
    head.onward = rendered([row for row in rows if row[0] not in (b"content-length", b"via")])
    head.version = VERSION
    head.rendered, head.blocks = {}, {}
    return head


def request_block(method: bytes, target: bytes, fields: bytes, *, scheme: bytes, ends: bool) -> Block:
    """A request's head for an instance; ``fields`` as ``rendering.field_block`` makes them."""
    if len(target) + len(fields) > PROXY_MEMO_SIZE_MAX:
        return _request_block(method, target, fields, scheme, ends)
    return _known_block(method, target, fields, scheme, ends)


def _request_block(method: bytes, target: bytes, fields: bytes, scheme: bytes, ends: bool) -> Block:
    rows = _rows_of(fields)
    authority = next((value for name, value in rows if name == b"host"), b"")
    first = [(b":method", method), (b":scheme", scheme), (b":authority", authority), (b":path", target)]
    return block([*first, *(row for row in rows if row[0] != b"host" and row[0] not in OF_CONNECTIONS)], ends=ends)


_known_block = lru_cache(PROXY_MEMO_COUNT_MAX)(_request_block)


def trailer_block(lines: bytes) -> Block:
    """Trailer fields for a client."""
    return block([(name.lower(), value) for name, value in _rows_of(lines)], ends=True)


def _rows_of(lines: bytes) -> list[tuple[bytes, bytes]]:
    rows = []
    for line in lines.split(b"\r\n")[:-1]:
        name, colon, value = line.partition(b":")
        if colon:
            rows.append((name, value.strip(b" \t")))
    return rows
