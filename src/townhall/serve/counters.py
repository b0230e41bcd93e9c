"""What an HTTP server counts, for metrics."""

from __future__ import annotations

import msgspec

__all__ = ["Counters", "GrpcCounters"]


class Counters(msgspec.Struct, gc=False):
    """Totals since the start, and gauges of the present. Written by one thread, read at any time."""

    informational: int = 0
    successful: int = 0
    redirected: int = 0
    refused_client: int = 0
    """Answers with a 4xx status."""
    failed_server: int = 0
    """Answers with a 5xx status."""
    cached: int = 0
    """Answers served again from their rendered bytes; part of the totals above."""
    received_bytes: int = 0
    sent_bytes: int = 0
    accepted: int = 0
    """Connections."""
    turned_away: int = 0
    """Connections over a limit."""
    malformed: int = 0
    """Requests that could not be read."""
    timed_out: int = 0
    """Connections closed by a timeout of header, body or stall; idle ones are not counted."""
    errors: int = 0
    """Exceptions that no handler should have raised."""
    dropped: int = 0
    """Answers whose client had gone."""
    open: int = 0
    """Connections now."""
    parked: int = 0
    """Parked reads now."""
    streams: int = 0
    """Streams now."""

    def answered(self, status: int) -> None:
        """Count an answer by its status class."""
        if status < 300:
            if status >= 200:
                self.successful += 1
            else:
                self.informational += 1
        elif status < 400:
            self.redirected += 1
        elif status < 500:
            self.refused_client += 1
        else:
            self.failed_server += 1


class GrpcCounters(msgspec.Struct):
    """The same for a gRPC listener: its HTTP/2 connections and calls."""

    succeeded: int = 0
    """Calls that ended with OK."""
    failed: dict[int, int] = msgspec.field(default_factory=dict)
    """Calls that ended otherwise, by gRPC's code."""
    received_bytes: int = 0
    sent_bytes: int = 0
    accepted: int = 0
    """Connections."""
    turned_away: int = 0
    """Connections over a limit."""
    malformed: int = 0
    """Connections and requests that broke HTTP/2's rules, or were no gRPC."""
    timed_out: int = 0
    """Connections closed because nothing came from them, or they took nothing."""
    cancelled: int = 0
    """Calls that the client took back, or whose connection broke."""
    errors: int = 0
    """Exceptions that no handler should have raised."""
    dropped: int = 0
    """Answers whose call was over."""
    open: int = 0
    """Connections now."""
    parked: int = 0
    """Parked calls now."""
    streams: int = 0
    """Streams now."""

    def answered(self, code: int) -> None:
        """Count a call's end."""
        if code:
            self.failed[code] = self.failed.get(code, 0) + 1
        else:
            self.succeeded += 1
