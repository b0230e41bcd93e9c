"""Who is connected, and what each address holds: shared by all that one server listens with."""

from __future__ import annotations

import asyncio
from typing import Protocol

from townhall.model.errors import OverLimit
from townhall.serve.options import HttpOptions

__all__ = ["Peer", "Peers"]


class Peer(Protocol):
    """One connection, whatever it speaks."""

    address: str

    def leave(self) -> None:
        """The server is shutting down: end what waits for nothing, and let what is being answered be answered."""
        ...

    def abort(self) -> None:
        """Cut the connection."""
        ...


class Peers:
    """The connections of one server, and the places that parked reads and streams take."""

    def __init__(self, options: HttpOptions) -> None:
        self._options = options
        self.connections: set[Peer] = set()
        self.empty = asyncio.Event()
        """Set while there is no connection."""
        self.empty.set()
        self.stopping = False
        self._addresses: dict[str, int] = {}
        self._places: dict[str, int] = {}

    def arrived(self, peer: Peer) -> bool:
        """Count a connection in; False when it is one too many, and must be told so and closed."""
        options = self._options
        there = self._addresses.get(peer.address, 0)
        crowded = len(self.connections) >= options.connections_max or there >= options.connections_per_address_max
        self.connections.add(peer)
        self._addresses[peer.address] = there + 1
        self.empty.clear()
        return not crowded and not self.stopping

    def departed(self, peer: Peer) -> None:
        """Count it out."""
        self.connections.remove(peer)
        _decrease(self._addresses, peer.address)
        if not self.connections:
            self.empty.set()

    def take_place(self, peer: Peer) -> None:
        """Count one more parked read or stream for the peer's address. Raises OverLimit."""
        count = self._places.get(peer.address, 0)
        limit = self._options.parked_per_address_max
        if count >= limit:
            raise OverLimit(
                "too many parked requests from one address", advice="use one stream for many services", limit=limit
            )
        self._places[peer.address] = count + 1

    def leave_place(self, peer: Peer) -> None:
        """One less."""
        _decrease(self._places, peer.address)


def _decrease(counts: dict[str, int], name: str) -> None:
    """Take one from a count that is above 0; nothing is kept for 0."""
    left = counts[name] - 1
    if left:
        counts[name] = left
    else:
        del counts[name]
