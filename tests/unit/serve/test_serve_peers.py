from __future__ import annotations

import pytest

from townhall.model.errors import OverLimit
from townhall.serve.options import HttpOptions
from townhall.serve.peers import Peers


class Someone:
    def __init__(self, address: str) -> None:
        self.address = address

    def leave(self) -> None:
        pass

    abort = leave


def test_connections_are_counted_by_address() -> None:
    peers = Peers(HttpOptions(connections_max=3, connections_per_address_max=2))
    first, second, third = Someone("127.0.0.1"), Someone("127.0.0.1"), Someone("127.0.0.1")
    assert peers.empty.is_set()
    assert peers.arrived(first)
    assert peers.arrived(second)
    assert not peers.arrived(third), "two from one address"
    assert not peers.arrived(Someone("127.0.0.2")), "three in all"
    peers.departed(first)
    peers.departed(third)
    assert peers.arrived(Someone("127.0.0.1"))
    assert not peers.empty.is_set()
    for left in list(peers.connections):
        peers.departed(left)
    assert peers.empty.is_set()
    peers.stopping = True
    assert not peers.arrived(first)


def test_places_are_counted_by_address() -> None:
    peers = Peers(HttpOptions(parked_per_address_max=1))
    first = Someone("127.0.0.1")
    peers.take_place(first)
    with pytest.raises(OverLimit):
        peers.take_place(Someone("127.0.0.1"))
    peers.take_place(Someone("127.0.0.2"))
    peers.leave_place(first)
    peers.take_place(first)
