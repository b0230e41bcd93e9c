"""Which addresses probes may dial."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from townhall.model.errors import InvalidField

__all__ = ["Ranges", "permitted_address"]

Network = IPv4Network | IPv6Network

DENIED: Final = ("169.254.0.0/16", "fe80::/10")
"""Link-local: cloud providers keep a machine's credentials at 169.254.169.254."""


class Ranges:
    """Networks that may be dialled: without ``allow`` all but link-local, with it those alone; ``deny`` wins over
    what ``allow`` does not name more exactly.
    """

    __slots__ = ("_allow", "_deny", "_open")

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        """Networks in CIDR form or single addresses. Raises InvalidField for anything else."""
        self._allow = [_network("allow", text) for text in allow]
        self._deny = [_network("deny", text) for text in (*DENIED, *deny)]
        self._open = not self._allow

    def permits(self, address: str) -> bool:
        """Whether this address (not a name) may be dialled."""
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if ip.is_multicast or ip.is_unspecified or ip == _BROADCAST:
            return False
        allowed, denied = _longest(self._allow, ip), _longest(self._deny, ip)
        return allowed > denied if allowed >= 0 else self._open and denied < 0


_BROADCAST = IPv4Address("255.255.255.255")


def _network(field: str, text: str) -> Network:
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise InvalidField(field, f"{text!r} is no network", advice="write it like 127.0.0.0/8") from error


def _longest(networks: list[Network], ip: IPv4Address | IPv6Address) -> int:
    """Length of the longest prefix that holds the address; -1 without any."""
    return max(
        (network.prefixlen for network in networks if ip.version == network.version and ip in network), default=-1
    )


async def permitted_address(host: str, ranges: Ranges) -> str:
    """The address of a host name (or address) that may be dialled. Raises OSError when there is none."""
    if not host:
        raise OSError("the target names no host")
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    else:
        addresses = [host]
    for address in addresses:
        if ranges.permits(address):
            return address
    raise OSError(f"{host} may not be probed from here (see probe.allow and probe.deny)")
