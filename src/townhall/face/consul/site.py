"""What the Consul face tells about the registry it stands before: node, datacenter, version."""

from __future__ import annotations

import hashlib
from typing import Protocol

import msgspec

from townhall.model.check import Node
from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE, Instance, ServiceKey

__all__ = ["CONSUL_VERSION", "SERVER_PORT", "Site", "Sited"]

CONSUL_VERSION = "1.22.0"
"""The Consul whose answers ours are like; clients switch features on by it."""
SERVER_PORT = 8300
"""What clients read out of ``/v1/status/leader``; nothing listens there."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One registry as Consul's clients know it: a single server agent that is its own leader."""

    node: str = "townhall"
    datacenter: str = "dc1"
    version: str = ""
    """Townhall's own."""
    address: str = "127.0.0.1"
    """What clients are told as the node's address; services without one of their own are called there."""
    pretty: bool = False
    """Indent every answer, as an agent in dev mode does."""
    script_checks: bool = False
    """Checks that run a program on this machine may be registered."""

    @property
    def node_id(self) -> str:
        """A stable identifier of this node in the form of a UUID."""
        digits = hashlib.sha256(f"townhall/{self.datacenter}/{self.node}".encode()).hexdigest()
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"

    @property
    def meta(self) -> dict[str, str]:
        """The metadata that a Consul server gives its own node."""
        return {"consul-network-segment": "", "consul-version": CONSUL_VERSION}

    def own_node(self) -> Node:
        """The record of this node, for as long as nobody registered another under its name."""
        address = self.address
        tagged = {"lan": address, "lan_ipv4": address, "wan": address, "wan_ipv4": address}
        return Node(
            name=self.node, id=self.node_id, address=address, tagged_addresses=tagged, meta=self.meta, revision=1, created=1
        )  # fmt: skip

    def own_service(self) -> Instance:
        """The service ``consul`` that a server shows as its own; clients ask it for the servers."""
        return Instance(
            key=ServiceKey(DEFAULT_NAMESPACE, DEFAULT_GROUP, "consul"), id="consul", address=self.address,
            port=SERVER_PORT, protocol="consul", node=self.node, incarnation=1, revision=1,
        )  # fmt: skip


class Sited(Protocol):
    """What has a site: the face, as the makers of its rows see it."""

    site: Site
