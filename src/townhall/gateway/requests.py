"""Requests of clients, as far as a proxy must understand them. Strict, pure.

Heads that came before are remembered by their bytes, and so are the fields below a request line that is new.
Raises ``Misuse`` with ``http_status`` for everything that RFC 9112 does not allow to be sent, and for what another
parser might read differently.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from townhall.gateway.fields import OUR_FIELDS, end_to_end, options_of, passed_by, rendered
from townhall.model.limits import HEADER_COUNT_MAX, PROXY_MEMO_COUNT_MAX, PROXY_MEMO_SIZE_MAX
from townhall.wire.http1 import body_length, check_head, check_host, refusal

if TYPE_CHECKING:
    from townhall.gateway.plane import Way

__all__ = ["IDEMPOTENT", "Fields", "RequestHead", "RequestHeads"]

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"})
"""Methods that may be sent a second time when nobody knows whether the first was acted on (RFC 9110 §9.2.2)."""

_HOPS: Final = re.compile(rb"[0-9]{1,9}")
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?]*)(/[^?]*)?(\?.*)?", re.DOTALL)
_DOTS: Final = re.compile(rb"[/\\](?:\.|%2[eE]){1,2}(?=[/\\;]|%2[fF]|%5[cC]|\Z)")
# A server that makes variables of field names (CGI, WSGI) reads these as fields that say how long a body is, or as
# those by which we tell it who asks.
_LOOKALIKES: Final = OUR_FIELDS | {b"content-length", b"transfer-encoding", b"host", b"connection", b"upgrade"}
_NEEDED: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
_RENDERED: Final = OUR_FIELDS | _NEEDED | {b"via"}
"""Fields that ``rendering`` writes anew."""


class Fields:
    """The fields of a request, read once however often they come."""

    __slots__ = (
        "authority", "by_name", "claimed_for", "expects_continue", "forwarded", "host", "keep_alive", "length", "old", "onward",
        "passed", "takes_trailers", "upgrade", "version",
    )  # fmt: skip

    by_name: dict[bytes, bytes]
    """Values by name in lower case; several of one name are joined with commas."""
    authority: bytes
    """The Host field as it came; b"" without one."""
    host: bytes
    """The same in lower case and without port: what routes look at."""
    length: int
    """Of the body; ``CHUNKED`` when it says so itself."""
    old: bool
    """HTTP/1.0."""
    version: bytes
    """Of HTTP, as Via has it."""
    keep_alive: bool
    expects_continue: bool
    upgrade: bytes
    """``websocket`` when that is asked for, else b"": other protocols are not offered to anybody."""
    takes_trailers: bool
    onward: bytes
    """The lines that every instance gets as they are."""
    passed: frozenset[bytes]
    """The proxies that it says it has come through (Via), by name."""
    forwarded: bytes
    """The lines by which a proxy before us told who asks; passed on only when it is trusted."""
    claimed_for: bytes
    """The X-Forwarded-For that came; b"" for none."""


class RequestHead:
    """One request's head."""

    __slots__ = ("fields", "last_hop", "method", "path", "query", "target", "way")

    def __init__(self, method: bytes, target: bytes, fields: Fields) -> None:
        self.method = method
        self.target = target
        """In origin form, or ``*``; never changed otherwise."""
        self.path, sign, query = target.partition(b"?")
        self.query = sign + query
        self.fields = fields
        hops = fields.by_name.get(b"max-forwards", b"")
        self.last_hop = method == b"OPTIONS" and hops != b"" and not hops.strip(b"0")
        """It must not go further than to us (RFC 9110 §7.6.2)."""
        self.way: Way | None = None
        """Where the plane sent it when it came last."""

    @property
    def idempotent(self) -> bool:
        """Whether doing it twice is as good as once."""
        return self.method in IDEMPOTENT


class RequestHeads:
    """Reads heads. ``dot_segments``: let paths with ``.`` and ``..`` pass."""

    def __init__(self, *, target_size_max: int, dot_segments: bool = False, count_max: int = HEADER_COUNT_MAX) -> None:
        self._target_size_max = target_size_max
        self._dot_segments = dot_segments
        self._count_max = count_max
        self._known: dict[bytes, Fields] = {}
        self._whole: dict[bytes, RequestHead] = {}
        """Heads that came before, byte for byte."""

    def read(self, raw: bytes) -> RequestHead:
        """A whole head with its empty line. Raises ``Misuse``: 400, 414, 417, 431, 501 or 505."""
        head = self._whole.get(raw)
        if head is None:
            head = self._read(raw)
            if len(raw) <= PROXY_MEMO_SIZE_MAX:
                if len(self._whole) >= PROXY_MEMO_COUNT_MAX:
                    self._whole.clear()
                self._whole[raw] = head
        return head

    def _read(self, raw: bytes) -> RequestHead:
        line_end = raw.find(b"\r\n")
        method, _, rest = raw[:line_end].partition(b" ")
        target, _, version = rest.rpartition(b" ")
        block = version + raw[line_end:]
        fields = self._known.get(block)
        # The line must be looked at each time, the fields only when they are new.
        check_head(raw if fields is None else raw[: line_end + 2] + b"\r\n", count_max=self._count_max)
        if fields is None or (method == b"OPTIONS" and b"max-forwards" in fields.by_name):
            counting = method == b"OPTIONS"
            fields = _read_fields(raw, old=version == b"HTTP/1.0", counting=counting)
            if len(block) <= PROXY_MEMO_SIZE_MAX and not counting:
                if len(self._known) >= PROXY_MEMO_COUNT_MAX:
                    self._known.clear()
                self._known[block] = fields
        if len(target) > self._target_size_max:
            raise refusal(414, "the request target is too long", limit=self._target_size_max)
        if not target.startswith(b"/"):
            target = _origin_form(method, target, fields)
        head = RequestHead(method, target, fields)
        if not self._dot_segments and (b"." in head.path or b"%2" in head.path) and _DOTS.search(head.path):
            raise refusal(
                400, "a path with '.' or '..' segments, which servers read differently", advice="resolve them"
            )
        if method == b"TRACE":
            raise refusal(501, "TRACE would show a client what is added to its requests on the way")
        if fields.upgrade and (method != b"GET" or fields.length):
            raise refusal(400, "a WebSocket handshake that is no GET without body")
        return head


def _origin_form(method: bytes, target: bytes, fields: Fields) -> bytes:
    """The target that an origin server gets (RFC 9112 §3.2)."""
    if method == b"CONNECT":
        raise refusal(501, "CONNECT is for forward proxies, and this is a gateway")
    if target == b"*" and method == b"OPTIONS":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise refusal(400, "a request target that is no path")
    if match[1].lower() != fields.authority.lower() or not match[1]:
        # RFC 9112 would have us believe the target; a server behind us may believe the field.
        raise refusal(400, "the target and the Host field name different hosts")
    return (match[2] or b"/") + (match[3] or b"")


def _read_fields(raw: bytes, *, old: bool, counting: bool) -> Fields:
    """``counting``: of a method for which Max-Forwards counts the hops that are left."""
    rows = [_row(line) for line in raw[:-4].split(b"\r\n")[1:]]
    fields = Fields()
    fields.old = old
    fields.version = b"1.0" if old else b"1.1"
    fields.length = body_length(rows, old=old)
    check_host(rows, required=not old)
    by_name: dict[bytes, bytes] = {}
    for name, value in rows:
        by_name[name] = by_name[name] + b", " + value if name in by_name else value
        if b"_" in name and name.replace(b"_", b"-") in _LOOKALIKES:
            raise refusal(400, f"the field {name.decode()} looks like another one to some servers")
    fields.by_name = by_name
    options = options_of(by_name.get(b"connection", b""))
    if options & _NEEDED:
        raise refusal(400, "a Connection field that names a field which must not be removed")
    fields.keep_alive = b"close" not in options and (not old or b"keep-alive" in options)
    fields.authority = by_name.get(b"host", b"")
    fields.host = _host(fields.authority)
    fields.expects_continue = _expects(by_name, old=old)
    asked = by_name.get(b"upgrade", b"").lower() if b"upgrade" in options and not old else b""
    fields.upgrade = asked if asked == b"websocket" else b""
    fields.takes_trailers = b"te" in options and b"trailers" in options_of(by_name.get(b"te", b""))
    fields.claimed_for = by_name.get(b"x-forwarded-for", b"")
    fields.passed = passed_by(by_name.get(b"via", b""))
    kept = end_to_end(rows, options)
    if counting and b"max-forwards" in by_name:
        kept = [_one_hop_less(row) for row in kept]
    fields.forwarded = rendered([row for row in kept if row[0] in OUR_FIELDS and row[0] != b"x-forwarded-for"])
    fields.onward = rendered([row for row in kept if row[0] not in _RENDERED])
    return fields


def _row(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")


def _one_hop_less(row: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    name, value = row
    if name != b"max-forwards":
        return row
    if _HOPS.fullmatch(value) is None:
        raise refusal(400, "a Max-Forwards that is not one number")
    return name, b"%d" % max(0, int(value) - 1)


def _host(authority: bytes) -> bytes:
    """A valid Host field without its port, in lower case and without the root's dot."""
    host = authority.lower()
    if host.endswith(b"]"):
        return host
    name, colon, port = host.rpartition(b":")
    return (name if colon and port.isdigit() else host.rstrip(b":")).rstrip(b".")


def _expects(by_name: dict[bytes, bytes], *, old: bool) -> bool:
    expectation = by_name.get(b"expect")
    if expectation is None or old:
        return False
    if expectation.lower() != b"100-continue":
        raise refusal(417, "an unknown expectation")
    return True
