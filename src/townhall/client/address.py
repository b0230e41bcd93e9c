"""Which address to advertise when none is given."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from townhall.client.connection import Origin
from townhall.model.errors import InvalidField

if TYPE_CHECKING:
    from townhall.client.network_interfaces import InterfaceAddress

__all__ = ["AddressChoice", "doubt", "outbound_address"]

_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")


@dataclass(frozen=True, slots=True)
class AddressChoice:
    """How a process finds the address that others shall call it by."""

    address: str = ""
    """This one."""
    interface: str = ""
    """An address of this interface (``eth0``), IPv4 first."""
    networks: Sequence[str] = ()
    """An address in the first of these networks that has one, in CIDR notation."""

    async def find(self, towards: Origin) -> str:
        """The address: as given, of the interface, in the networks, or the one by which the registry is reached.

        Raises ``InvalidField`` when there is none.
        """
        if self.address:
            return self.address
        if not self.interface and not self.networks:
            return await outbound_address(towards)
        from townhall.client import network_interfaces  # noqa: PLC0415 - ctypes costs 10 ms, which few need

        try:
            found = network_interfaces.interface_addresses()
        except OSError as error:
            raise InvalidField("interface", f"cannot be asked for: {error}", advice="give address=") from error
        return self._chosen(found)

    def _chosen(self, found: Sequence[InterfaceAddress]) -> str:
        there = [one for one in found if not self.interface or one.interface == self.interface]
        if not there:
            names = ", ".join(sorted({one.interface for one in found})) or "none"
            raise InvalidField("interface", f"{self.interface!r} has no address; there are {names}")
        addresses = sorted((ipaddress.ip_address(one.address) for one in there), key=lambda one: one.version)
        if not self.networks:
            return str(addresses[0])
        if isinstance(self.networks, str):
            raise InvalidField(
                "networks", f"{self.networks!r} is a text and no list", advice=f"use [{self.networks!r}]"
            )
        for text in self.networks:
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError as error:
                raise InvalidField("networks", str(error)) from error
            for address in addresses:
                if address in network:
                    return str(address)
        raise InvalidField("networks", f"no address of this machine lies in {', '.join(self.networks)}")


def doubt(address: str, towards: Origin) -> str:
    """Why others may not reach this address, or ''. A registry elsewhere makes a loopback address suspicious."""
    try:
        ours = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if ours.is_loopback:
        local = towards.host in ("localhost", "") or _is_loopback(towards.host)
        return "" if local else f"{address} is a loopback address, which only this machine can reach"
    if ours.is_private and any(os.path.exists(mark) for mark in _CONTAINER_MARKS):
        return f"{address} may be this container's own, which other machines cannot reach; give address= if so"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def outbound_address(towards: Origin) -> str:
    """The local address that the system uses to reach the registry; loopback when the registry is on loopback.

    Nothing is sent: connecting a UDP socket only asks the routing table. Raises ``InvalidField`` when there is no route.
    """
    loop = asyncio.get_running_loop()
    try:
        candidates = await loop.getaddrinfo(towards.host, towards.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise _unknown(towards, error) from error
    last: OSError = OSError("no address")
    for family, kind, protocol, _, peer in candidates:
        with socket.socket(family, kind, protocol) as probe:
            try:
                probe.connect(peer)
            except OSError as error:
                last = error
                continue
            # A link-local IPv6 address carries its interface after '%', which means nothing elsewhere.
            return str(probe.getsockname()[0]).partition("%")[0]
    raise _unknown(towards, last)


def _unknown(towards: Origin, error: OSError) -> InvalidField:
    return InvalidField("address", f"cannot be found out: no route to {towards} ({error})", advice="give address=")
