"""What goes on the wire: heads of requests for instances, heads of answers for clients. Pure.

Always HTTP/1.1 and framed by us, whatever version and framing came.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from townhall.gateway.answers import AnswerHead
from townhall.gateway.fields import via
from townhall.gateway.requests import Fields
from townhall.wire.http1 import CHUNKED

__all__ = ["Asker", "answer_head", "field_block"]

_CHUNKED_LINE: Final = b"transfer-encoding: chunked\r\n"


class Asker(NamedTuple):
    """The client, as instances are told of it."""

    address: bytes
    scheme: bytes
    trusted: bool
    """It is a proxy whose word about others is passed on."""
    forwarded: bool
    """Send RFC 7239's Forwarded as well."""
    name: bytes
    """Ours, in Via."""


def field_block(fields: Fields, asker: Asker, *, authority: bytes, expects: bool) -> bytes:
    """Everything of a request's head after its first line, with the empty line at the end."""
    parts = [b"host: %b\r\n" % authority, fields.onward, _forwarded(fields, asker)]
    parts.append(via(fields.by_name.get(b"via", b""), version=fields.version, name=asker.name))
    if fields.length == CHUNKED:
        parts.append(_CHUNKED_LINE)
    elif fields.length or b"content-length" in fields.by_name:
        parts.append(b"content-length: %d\r\n" % fields.length)
    if expects:
        parts.append(b"expect: 100-continue\r\n")
    if fields.upgrade:
        parts.append(b"connection: upgrade\r\nupgrade: %b\r\n" % fields.upgrade)
    elif fields.takes_trailers:
        parts.append(b"te: trailers\r\nconnection: te\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def _forwarded(fields: Fields, asker: Asker) -> bytes:
    """Who asks. A trusted proxy's chain is kept and its own address added, everybody else's is dropped."""
    address = asker.address
    if asker.trusted:
        came = fields.by_name
        chain = fields.claimed_for + b", " + address if fields.claimed_for else address
        lines = [b"x-forwarded-for: %b\r\n" % chain, fields.forwarded]
        if b"x-forwarded-proto" not in came:
            lines.append(b"x-forwarded-proto: %b\r\n" % asker.scheme)
        if b"x-forwarded-host" not in came and fields.authority:
            lines.append(b"x-forwarded-host: %b\r\n" % fields.authority)
        return b"".join(lines)
    lines = [b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n" % (address, asker.scheme)]
    if fields.authority:
        lines.append(b"x-forwarded-host: %b\r\n" % fields.authority)
    if asker.forwarded:
        node = b'"[%b]"' % address if b":" in address else address
        host = b';host="%b"' % fields.authority if fields.authority else b""
        lines.append(b"forwarded: for=%b;proto=%b%b\r\n" % (node, asker.scheme, host))
    return b"".join(lines)


def answer_head(head: AnswerHead, length: int, *, name: bytes, old: bool, close: bool) -> bytes:
    """An answer's head for a client; ``length`` as ``answers.body_length_of`` says, ``old`` for a client of HTTP/1.0."""
    variant = (length, name, old, close)
    known = head.rendered.get(variant)
    if known is None:
        known = head.rendered[variant] = _answer_head(head, length, name=name, old=old, close=close)
    return known


def _answer_head(head: AnswerHead, length: int, *, name: bytes, old: bool, close: bool) -> bytes:
    parts = [b"HTTP/1.1 %d%b\r\n" % (head.status, head.reason or b" "), head.onward]
    if head.status == 101:
        parts.append(b"connection: upgrade\r\nupgrade: %b\r\n" % head.takes_upgrade)
    elif head.status >= 200:
        parts.append(via(head.via, version=head.version, name=name))
        if length > 0:
            parts.append(_framing(length, old=old))
        elif length < 0:
            parts.append(b"" if old else _CHUNKED_LINE)
        elif head.announced and head.status != 204:
            parts.append(b"content-length: %b\r\n" % head.announced)
        if close:
            parts.append(b"connection: close\r\n")
        elif old:
            parts.append(b"connection: keep-alive\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def _framing(length: int, *, old: bool) -> bytes:
    if length < 1 << 61:
        return b"content-length: %d\r\n" % length
    return b"" if old else _CHUNKED_LINE
