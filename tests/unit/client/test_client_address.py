"""Which address is advertised."""

from __future__ import annotations

import asyncio

import pytest

from townhall.client import address as address_module
from townhall.client import network_interfaces
from townhall.client.address import AddressChoice, doubt, outbound_address
from townhall.client.connection import Origin
from townhall.client.network_interfaces import InterfaceAddress
from townhall.model.errors import InvalidField


def test_loopback_towards_loopback() -> None:
    assert asyncio.run(outbound_address(Origin("http", "127.0.0.1", 7500))) == "127.0.0.1"
    assert asyncio.run(outbound_address(Origin("http", "localhost", 7500))) in ("127.0.0.1", "::1")


def test_no_route_is_said() -> None:
    with pytest.raises(InvalidField, match="address"):
        asyncio.run(outbound_address(Origin("http", "no-such-host.invalid", 1)))


HERE = [
    InterfaceAddress("lo", "127.0.0.1"),
    InterfaceAddress("lo", "::1"),
    InterfaceAddress("eth0", "::2"),
    InterfaceAddress("eth0", "127.9.0.7"),
    InterfaceAddress("eth1", "127.77.0.1"),
]
REGISTRY = Origin("http", "127.0.0.1", 7500)


@pytest.mark.parametrize(
    ("choice", "address"),
    [
        (AddressChoice("127.1.2.3", "eth9", ("nonsense",)), "127.1.2.3"),
        (AddressChoice(interface="eth0"), "127.9.0.7"),
        (AddressChoice(interface="eth0", networks=("::/64",)), "::2"),
        (AddressChoice(networks=("127.77.0.0/16", "127.9.0.0/16")), "127.77.0.1"),
        (AddressChoice(networks=("127.200.0.0/16", "127.9.0.0/16")), "127.9.0.7"),
        (AddressChoice(), "127.0.0.1"),
    ],
)
def test_the_choice(monkeypatch: pytest.MonkeyPatch, choice: AddressChoice, address: str) -> None:
    monkeypatch.setattr(network_interfaces, "interface_addresses", lambda: HERE)
    assert asyncio.run(choice.find(REGISTRY)) == address


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (AddressChoice(interface="wlan0"), "eth0, eth1, lo"),
        (AddressChoice(networks=("127.200.0.0/16",)), "no address of this machine"),
        (AddressChoice(networks=("127.0.0.0/99",)), "networks"),
        (AddressChoice(networks="127.0.0.0/8"), "is a text and no list"),
    ],
)
def test_no_such_address_is_said(monkeypatch: pytest.MonkeyPatch, choice: AddressChoice, words: str) -> None:
    monkeypatch.setattr(network_interfaces, "interface_addresses", lambda: HERE)
    with pytest.raises(InvalidField, match=words):
        asyncio.run(choice.find(REGISTRY))


def test_a_system_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> list[InterfaceAddress]:
        raise OSError("no getifaddrs")

    monkeypatch.setattr(network_interfaces, "interface_addresses", refuse)
    with pytest.raises(InvalidField, match="getifaddrs"):
        asyncio.run(AddressChoice(interface="eth0").find(REGISTRY))


def test_doubts(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Origin("http", "registry.invalid", 7500)
    assert doubt("127.0.0.1", REGISTRY) == doubt("127.0.0.1", Origin("http", "localhost", 1)) == ""
    assert "loopback" in doubt("127.0.0.1", elsewhere)
    assert doubt("host.invalid", elsewhere) == ""
    monkeypatch.setattr(address_module, "_CONTAINER_MARKS", ("/",))
    assert "container" in doubt("fd00::7", elsewhere)
    monkeypatch.setattr(address_module, "_CONTAINER_MARKS", ())
    assert doubt("fd00::7", elsewhere) == ""
