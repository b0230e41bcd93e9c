"""The access log: one line a request, as text or JSON, written in batches."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TextIO

import msgspec

from townhall.gateway.trace import Trace

__all__ = ["AccessLog"]

_log = logging.getLogger("townhall.gateway")
_LINES_MAX = 256
"""Lines that are gathered before they are written without waiting for the next tick."""


class AccessLog:
    """``path`` is a file, ``-`` for standard output, or '' for none. ``reopen`` follows a file that was moved away."""

    def __init__(self, path: str, *, form: str = "text") -> None:
        self._path = path
        self._json = form == "json"
        self._lines: list[str] = []
        self._file: TextIO | None = None
        self.open = False
        self.reopen()

    def reopen(self) -> None:
        """Open the file anew. Raises OSError."""
        self.flush()
        if self._file is not None and self._file is not sys.stdout:
            self._file.close()
        if self._path == "-":
            self._file = sys.stdout
        elif self._path:
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - as long as the gateway lives
        self.open = self._file is not None

    def add(self, trace: Trace, duration_s: float) -> None:
        """A request is over."""
        self._lines.append(_json(trace, duration_s) if self._json else _text(trace, duration_s))
        if len(self._lines) >= _LINES_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered. A disk that is full costs lines, not requests."""
        lines, self._lines = self._lines, []
        if lines and self._file is not None:
            try:
                self._file.write("".join(lines))
                self._file.flush()
            except OSError as error:
                _log.error("the access log cannot be written: %s", error)

    def close(self) -> None:
        """Write the rest and close."""
        self.flush()
        if self._file is not None and self._file is not sys.stdout:
            self._file.close()
        self._file = None
        self.open = False


def _text(trace: Trace, duration_s: float) -> str:
    """Combined log format, and what a proxy knows beside it: service, instance, attempts, milliseconds."""
    head = trace.head
    now = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
    line, referer, agent = "-", "-", "-"
    if head is not None:
        line = f"{_word(head.method)} {_word(head.target)} HTTP/{head.fields.version.decode()}"
        referer = _word(head.fields.by_name.get(b"referer", b"-"))
        agent = _word(head.fields.by_name.get(b"user-agent", b"-"))
    return (
        f'{trace.address or "-"} - - [{now}] "{line}" {trace.status} {trace.sent} "{referer}" "{agent}" '
        f"{trace.service or '-'} {_instance(trace) or '-'} {trace.attempts} {duration_s * 1000:.1f}{_why(trace)}\n"
    )


def _json(trace: Trace, duration_s: float) -> str:
    head = trace.head
    now = time.time()
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z",
        "client": trace.address,
        "method": _word(head.method) if head is not None else "",
        "host": _word(head.fields.authority) if head is not None else "",
        "target": _word(head.target) if head is not None else "",
        "version": _word(head.fields.version) if head is not None else "",
        "status": trace.status,
        "code": trace.code,
        "received": trace.received,
        "sent": trace.sent,
        "route": trace.route,
        "service": trace.service,
        "instance": _instance(trace),
        "attempts": trace.attempts,
        "failures": trace.failures,
        "ms": round(duration_s * 1000, 3),
        "agent": _word(head.fields.by_name.get(b"user-agent", b"")) if head is not None else "",
    }
    return msgspec.json.encode(entry).decode() + os.linesep


def _instance(trace: Trace) -> str:
    return trace.instance.authority if trace.instance is not None else ""


def _why(trace: Trace) -> str:
    words = [*trace.failures, *filter(None, [trace.code])]
    return " " + ",".join(words) if words else ""


def _word(raw: bytes) -> str:
    """Bytes of a client, harmless in a line: quotes and everything that is no visible ASCII are escaped."""
    text = raw.decode("latin-1")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(one if 32 <= ord(one) < 127 and one not in '"\\' else f"\\x{ord(one):02x}" for one in text)
