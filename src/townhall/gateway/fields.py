"""Which header fields go on, and which end here (RFC 9110 §7.6.1). Pure.

Fields that speak of one connection end at its end: those that the RFC names, and those that ``Connection`` lists. Who
asks is told to instances by us (``OUR_FIELDS``); what a client claims of it is not believed unless it is a trusted
proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["HOP_BY_HOP", "OUR_FIELDS", "end_to_end", "options_of", "passed_by", "rendered", "safe_trailers", "via"]

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        # An HTTP/1.1 server that speaks HTTP/2 as well takes an upgrade from it (RFC 7540 §3.2).
        b"http2-settings",
    }
)
"""Fields that end here, listed or not."""
OUR_FIELDS: Final = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto", b"x-real-ip"}
)
"""Fields by which a proxy tells who asked."""

_NEVER_LAST: Final = (
    HOP_BY_HOP
    | OUR_FIELDS
    | {
        b"authorization", b"cache-control", b"content-encoding", b"content-length", b"content-range", b"content-type",
        b"cookie", b"expect", b"host", b"max-forwards", b"range", b"set-cookie", b"trailer", b"via", b"x-http-method-override",
    }
)  # fmt: skip
"""Fields that must not come behind a body (RFC 9110 §6.5.1): a server that merges them into the head would be misled."""


def safe_trailers(lines: bytes) -> bytes:
    """Checked trailer fields, without those that frame, route, authenticate or tell who asks."""
    if not lines:
        return b""
    kept = [
        line
        for line in lines.split(b"\r\n")[:-1]
        if line.partition(b":")[0].lower().replace(b"_", b"-") not in _NEVER_LAST
    ]
    return b"".join([line + b"\r\n" for line in kept])


def options_of(value: bytes) -> frozenset[bytes]:
    """The members of a list of tokens (Connection, TE), in lower case and without parameters."""
    if not value:
        return frozenset()
    return frozenset(one.partition(b";")[0].strip(b" \t").lower() for one in value.split(b",")) - {b""}


def end_to_end(rows: Iterable[tuple[bytes, bytes]], options: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The fields that go on; ``options`` are the members of Connection."""
    return [row for row in rows if row[0] not in HOP_BY_HOP and row[0] not in options]


def rendered(rows: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Fields as lines; they were checked when they were read."""
    return b"".join([b"%b: %b\r\n" % row for row in rows])


def passed_by(value: bytes) -> frozenset[bytes]:
    """The names in a Via field: ``1.1 a, 1.0 b (comment)`` is a and b."""
    if not value:
        return frozenset()
    words = [one.split() for one in value.split(b",")]
    return frozenset(found[1] for found in words if len(found) > 1)


def via(before: bytes, *, version: bytes, name: bytes) -> bytes:
    """The Via line: what came, and ourselves (RFC 9110 §7.6.3). ``version`` is that of the message received."""
    own = b"%b %b" % (version, name)
    return b"via: %b\r\n" % (before + b", " + own if before else own)
