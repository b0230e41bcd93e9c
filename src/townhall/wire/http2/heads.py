"""Heads: the fields of a request, checked and sorted (RFC 9113 §8)."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["OF_CONNECTIONS", "Field", "Head", "head_of_fields"]

Field = tuple[bytes, bytes]

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+\Z")
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
OF_CONNECTIONS: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
"""RFC 9113 §8.2.2: they belong to HTTP/1.1 and make a message malformed."""
_ENTRY_OVERHEAD: Final = 32
"""What a field counts beside its bytes (RFC 7541 §4.1)."""


class Head:
    """One request's head, read and checked."""

    __slots__ = ("authority", "fault", "fields", "length", "method", "path", "plan", "size", "whole")

    def __init__(self) -> None:
        self.method = b""
        self.path = b""
        self.authority = b""
        """Of ``:authority``; b"" when there is none."""
        self.fields: list[Field] = []
        """All but the pseudo fields, in order."""
        self.length = -1
        """Of ``content-length``; -1 when there is none."""
        self.size = 0
        """As RFC 9113 §6.5.2 counts it."""
        self.fault = ""
        """Why it is malformed (RFC 9113 §8.1.1); the stream ends with PROTOCOL_ERROR."""
        self.plan: object = None
        """For the sink: what it made of this head, remembered with it."""
        self.whole = False
        """Set by the sink: a request with this head may be given to ``Sink.whole``."""


def head_of_fields(fields: list[Field]) -> Head:
    """Check and sort the fields of a request."""
    head = Head()
    pseudo: dict[bytes, bytes] = {}
    for name, value in fields:
        head.size += len(name) + len(value) + _ENTRY_OVERHEAD
        if name[:1] == b":":
            if name not in _PSEUDO or name in pseudo or head.fields:
                head.fault = "a pseudo field that is unknown, doubled or late"
            pseudo[name] = value
        elif name in OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
            head.fault = "a field of HTTP/1.1 connections"
        else:
            head.fields.append((name, value))
            if name == b"content-length":
                head.fault = _set_length(head, value) or head.fault
            elif not _NAME.match(name):
                head.fault = "a field name that is none"
        if _BAD_VALUE.search(value):
            head.fault = "a field value that is none"
    head.authority = pseudo.get(b":authority", b"")
    head.method, head.path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not (head.method and head.path and pseudo.get(b":scheme")) and head.method != b"CONNECT":
        head.fault = head.fault or "a request without method, scheme or path"
    return head


def _set_length(head: Head, value: bytes) -> str:
    if not value.isdigit() or len(value) > 18 or head.length not in (-1, int(value)):
        return "a content-length that is no number, or two"
    head.length = int(value)
    return ""
