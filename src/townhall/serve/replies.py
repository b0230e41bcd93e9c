"""Answers as bytes: heads, gzip, the Date of this second, and the memory of rendered answers.

A reply with a view is kept whole. While the view is fresh, the same bytes answer the same question: same target,
credentials, Accept, If-None-Match and gzip. Eviction gives a second chance: the oldest goes, unless it was used since
it was last looked at.
"""

from __future__ import annotations

import time
import zlib
from collections import OrderedDict
from email.utils import formatdate
from typing import Final

from townhall.core import View
from townhall.face import Reply
from townhall.serve.counters import Counters
from townhall.serve.heads import Plan
from townhall.serve.options import HttpOptions
from townhall.wire.http1 import render_fields, render_head

__all__ = ["Rendered", "Replies", "date_line"]

_GZIP_LEVEL: Final = 1
"""Uncached answers pay for it each time; level 6 takes four times as long for a tenth less."""
_GZIP_WINDOW: Final = 31
"""zlib's number for the gzip format with the largest window."""
_COMPRESSIBLE: Final = (
    b"application/json",
    b"application/problem+json",
    b"application/xml",
    b"text/",
    b"application/yaml",
)
_BODYLESS: Final = frozenset({204, 304})
"""RFC 9110 §6.4.1: these end with their head."""
_CLOSE: Final = b"Connection: close\r\n"
_KEEP: Final = b"Connection: keep-alive\r\n"


def date_line(now: float) -> bytes:
    """The Date field for a Unix time, with its CRLF (RFC 9110 §6.6.1)."""
    return b"Date: " + formatdate(now, usegmt=True).encode("ascii") + b"\r\n"


class _Stale:
    fresh = False


_STALE: Final = _Stale()


class Rendered:
    """An answer as bytes. ``wire`` is the whole of it for a HTTP/1.1 connection that stays open, with this ``date``."""

    __slots__ = ("body", "date", "key", "status", "top", "used", "view", "wire")

    def __init__(self, status: int, top: bytes, body: bytes) -> None:
        self.status = status
        self.top = top
        """Status line and fields but Date and Connection."""
        self.body = body
        self.view: View = _STALE
        self.key: tuple[object, ...] = ()
        self.used = False
        self.date = b""
        self.wire = b""

    def drop(self) -> None:
        """Never again: plans may still point here, and must not hold the bytes."""
        self.view = _STALE
        self.top = self.body = self.wire = b""


class Replies:
    """Renders for one server. ``tick`` must be called about once a second."""

    def __init__(self, options: HttpOptions, counters: Counters) -> None:
        self._options = options
        self._counters = counters
        self._kept: OrderedDict[tuple[object, ...], Rendered] = OrderedDict()
        self._kept_size = 0
        self._tops: dict[tuple[int, bytes], bytes] = {}
        self._second = 0
        self.date = b""
        self.tick()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes kept."""
        return self._kept_size

    def tick(self) -> None:
        """Take the time for the Date field."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self.date = date_line(now)

    def find(self, plan: Plan) -> Rendered | None:
        """The remembered answer to this plan, when it still holds."""
        rendered = plan.rendered
        if rendered is None or not rendered.view.fresh:
            if plan.key is None:
                return None
            rendered = plan.rendered = self._kept.get(plan.key)
            if rendered is None:
                return None
            if not rendered.view.fresh:
                self._evict(rendered)
                plan.rendered = None
                return None
        rendered.used = True
        return rendered

    def render(self, reply: Reply, plan: Plan) -> Rendered:
        """Put a reply into bytes, and remember it when it may be. Raises ``ValueError`` for fields that break a head."""
        rendered = self._assemble(reply, plan)
        if reply.view is not None and plan.key is not None and reply.view.fresh:
            self._keep(rendered, reply.view, plan)
        return rendered

    def answer(self, reply: Reply, plan: Plan, *, last: bool) -> bytes:
        """``render``, then ``wire``; nothing is kept of what may not be remembered. Raises ``ValueError`` as ``render``."""
        if reply.view is not None or plan.old or last or plan.method == "HEAD":
            return self.wire(self.render(reply, plan), plan, last=last)
        top, body = self._top_and_body(reply, plan)
        self._counters.answered(reply.status)
        return b"%b%b\r\n%b" % (top, self.date, body)

    def wire(self, rendered: Rendered, plan: Plan, *, last: bool) -> bytes:
        """The whole answer; ``last`` says that the connection ends after it. Counted here, once an answer."""
        self._counters.answered(rendered.status)
        if plan.old or last or plan.method == "HEAD":
            connection = _CLOSE if last else _KEEP if plan.old else b""
            body = b"" if plan.method == "HEAD" else rendered.body
            return b"".join((rendered.top, self.date, connection, b"\r\n", body))
        if rendered.view is _STALE:
            return b"".join((rendered.top, self.date, b"\r\n", rendered.body))
        return self.stamp(rendered)

    def stamp(self, rendered: Rendered) -> bytes:
        """``wire`` with the present Date."""
        if rendered.date is not self.date:
            rendered.date = self.date
            rendered.wire = b"".join((rendered.top, self.date, b"\r\n", rendered.body))
        return rendered.wire

    def stream_head(
        self, content_type: bytes, fields: tuple[tuple[bytes, bytes], ...], plan: Plan, *, last: bool
    ) -> bytes:
        """The head of an answer without known length: chunked, or until the end of the connection in HTTP/1.0."""
        top = render_head(200, ((b"Content-Type", content_type), *fields))
        self._counters.answered(200)
        coding = b"" if plan.old else b"Transfer-Encoding: chunked\r\n"
        return b"".join((top, coding, self.date, _CLOSE if last or plan.old else b"", b"\r\n"))

    def _assemble(self, reply: Reply, plan: Plan) -> Rendered:
        top, body = self._top_and_body(reply, plan)
        return Rendered(reply.status, top, body)

    def _top_and_body(self, reply: Reply, plan: Plan) -> tuple[bytes, bytes]:
        status = reply.status
        body = reply.body
        if status in _BODYLESS:
            return render_head(status, reply.headers), b""
        content_type = reply.content_type if body else b""
        top = self._tops.get((status, content_type)) or self._top(status, content_type)
        if reply.headers:
            top += render_fields(reply.headers)
        if len(body) >= self._options.gzip_size_min and reply.content_type.startswith(_COMPRESSIBLE):
            top, body = _compress(top, body, reply, wanted=plan.gzip)
        return b"%bContent-Length: %d\r\n" % (top, len(body)), body

    def _top(self, status: int, content_type: bytes) -> bytes:
        """Status line and Content-Type; the few that there are are kept."""
        top = render_head(status, ((b"Content-Type", content_type),) if content_type else ())
        if len(self._tops) < 1_000:
            self._tops[status, content_type] = top
        return top

    def _keep(self, rendered: Rendered, view: View, plan: Plan) -> None:
        assert plan.key is not None
        before = self._kept.get(plan.key)
        if before is not None:
            self._evict(before)
        weight = _weight(rendered)
        options = self._options
        if weight > options.reply_cache_size_max:
            return
        # Room is made first, so that what is about to be sent is never what goes.
        while (
            len(self._kept) >= options.reply_cache_count_max or self._kept_size + weight > options.reply_cache_size_max
        ):
            oldest = next(iter(self._kept.values()))
            if oldest.used and oldest.view.fresh:
                oldest.used = False
                self._kept.move_to_end(oldest.key)
            else:
                self._evict(oldest)
        rendered.view = view
        rendered.key = plan.key
        plan.rendered = rendered
        self._kept[plan.key] = rendered
        self._kept_size += weight

    def _evict(self, rendered: Rendered) -> None:
        if self._kept.get(rendered.key) is rendered:
            del self._kept[rendered.key]
            self._kept_size -= _weight(rendered)
        rendered.drop()


def _weight(rendered: Rendered) -> int:
    # The body is held twice: alone, and within the bytes of this second.
    return 2 * (len(rendered.top) + len(rendered.body))


def _compress(top: bytes, body: bytes, reply: Reply, *, wanted: bool) -> tuple[bytes, bytes]:
    if any(name.lower() == b"content-encoding" for name, _ in reply.headers):
        return top, body
    top += b"Vary: Accept-Encoding\r\n"
    if wanted:
        packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
        packed = packer.compress(body) + packer.flush()
        if len(packed) < len(body):
            return top + b"Content-Encoding: gzip\r\n", packed
    return top, body
