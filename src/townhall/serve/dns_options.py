"""What may be set about a DNS server, and what it counts."""

from __future__ import annotations

import msgspec

from townhall.model import limits

__all__ = ["DnsCounters", "DnsServerOptions", "Recursor"]


class Recursor(msgspec.Struct, frozen=True):
    """A server that knows other domains; its address is numeric."""

    host: str
    port: int = 53


class DnsServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of one DNS server. Sizes in bytes, times in milliseconds."""

    recursors: tuple[Recursor, ...] = ()
    """Asked in this order."""
    recursor_timeout_ms: int = limits.DNS_RECURSOR_TIMEOUT_MS
    connections_max: int = limits.DNS_CONNECTIONS_MAX
    connections_per_address_max: int = limits.DNS_CONNECTIONS_PER_ADDRESS_MAX
    idle_timeout_ms: int = limits.DNS_IDLE_TIMEOUT_MS
    rate: int = limits.DNS_RATE_DEFAULT
    """UDP answers a second to one network; 0 for no limit."""
    rate_local: bool = False
    """Count answers to loopback and private networks, too."""
    token: str = ""
    """The secret whose rights all questions have; empty is anonymous."""


class DnsCounters(msgspec.Struct, gc=False):
    """Totals since the start, and gauges of the present. Written by one thread, read at any time."""

    udp: int = 0
    """Queries over UDP."""
    tcp: int = 0
    """Queries over TCP."""
    cached: int = 0
    """Answers served again from their rendered bytes."""
    malformed: int = 0
    """Messages that could not be read."""
    limited: int = 0
    """UDP answers that the rate limit dropped or cut short."""
    dropped: int = 0
    """Answers that the kernel did not take, or whose client had gone."""
    forwarded: int = 0
    """Queries passed on to recursors."""
    unanswered: int = 0
    """Of those, the ones that no recursor answered."""
    accepted: int = 0
    """TCP connections."""
    turned_away: int = 0
    """TCP connections over a limit."""
    timed_out: int = 0
    """TCP connections closed for being idle."""
    errors: int = 0
    """Exceptions that nothing should have raised."""
    open: int = 0
    """TCP connections now."""
