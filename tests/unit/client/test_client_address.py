"""Which address is advertised."""

from __future__ import annotations

import asyncio

import pytest

from townhall.client.address import outbound_address
from townhall.client.connection import Origin
from townhall.model.errors import InvalidField


def test_loopback_towards_loopback() -> None:
    assert asyncio.run(outbound_address(Origin("http", "127.0.0.1", 7500))) == "127.0.0.1"
    assert asyncio.run(outbound_address(Origin("http", "localhost", 7500))) in ("127.0.0.1", "::1")


def test_no_route_is_said() -> None:
    with pytest.raises(InvalidField, match="address"):
        asyncio.run(outbound_address(Origin("http", "no-such-host.invalid", 1)))
