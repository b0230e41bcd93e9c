"""Which address to advertise when none is given."""

from __future__ import annotations

import asyncio
import socket

from townhall.client.connection import Origin
from townhall.model.errors import InvalidField

__all__ = ["outbound_address"]


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
