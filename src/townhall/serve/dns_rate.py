"""Limits the UDP answers that one network gets, so that nobody's address can be flooded by forged queries.

Counted per /24 or /56 in windows of one second. Beyond the rate most answers are dropped, and every
``DNS_RATE_SLIP``-th is a short truncated one: an honest client comes back over TCP, which cannot be forged. Loopback and
private networks are not counted unless asked for: a victim there is not out on the Internet, and resolvers for
whole sites ask from there.
"""

from __future__ import annotations

import enum
import ipaddress

from townhall.model import limits

__all__ = ["RateLimit", "Ruling"]

_V4_BITS = 24
_V6_BITS = 56


class Ruling(enum.Enum):
    """What to do with one answer."""

    SEND = "send"
    SHORTEN = "shorten"
    DROP = "drop"


class RateLimit:
    """Pure: whoever owns it calls ``next_second``."""

    def __init__(self, rate: int, *, local: bool = False) -> None:
        self._rate = rate
        self._local = local
        self._networks: dict[str, str] = {}
        """Address → its network, '' for one that is not counted."""
        self._counts: dict[str, int] = {}

    def judge(self, address: str) -> Ruling:
        """Count an answer to this address."""
        if not self._rate:
            return Ruling.SEND
        network = self._networks.get(address)
        if network is None:
            network = self._network(address)
        if not network:
            return Ruling.SEND
        counts = self._counts
        count = counts[network] = counts.get(network, 0) + 1
        if count <= self._rate:
            return Ruling.SEND
        return Ruling.DROP if (count - self._rate) % limits.DNS_RATE_SLIP else Ruling.SHORTEN

    def next_second(self) -> None:
        """Begin to count anew."""
        self._counts.clear()

    def _network(self, address: str) -> str:
        if len(self._networks) >= limits.DNS_RATE_NETWORKS_MAX:
            self._networks.clear()
            self._counts.clear()
        ip = ipaddress.ip_address(address.partition("%")[0])
        exempt = not self._local and (ip.is_loopback or ip.is_private or ip.is_link_local)
        bits = _V4_BITS if ip.version == 4 else _V6_BITS
        network = "" if exempt else str(ipaddress.ip_network((ip, bits), strict=False))
        self._networks[address] = network
        return network
