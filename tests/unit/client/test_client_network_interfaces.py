"""This machine's own addresses."""

from __future__ import annotations

import ipaddress

from townhall.client.network_interfaces import interface_addresses


def test_loopback_is_among_them_and_link_local_is_not() -> None:
    found = interface_addresses()
    assert any(one.address == "127.0.0.1" for one in found)
    assert all(one.interface for one in found)
    for one in found:
        address = ipaddress.ip_address(one.address)
        assert not (address.version == 6 and address.is_link_local)
