"""What DNS looks up in the catalogue: instances of a service, nodes, and who has an address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from townhall.model import limits
from townhall.model.check import Node
from townhall.model.errors import Denied, NotFound, Unauthenticated
from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE, Instance, ServiceKey, Verdict

if TYPE_CHECKING:
    from townhall.core import Interest
    from townhall.core.queries import Reader
    from townhall.face.dns import DnsOptions

__all__ = ["Catalogue", "Selection", "own_address", "packed", "warning", "weight"]

_WEIGHT_MAX: Final = 65_535
_WARNING_WEIGHT: Final = "consul.warning_weight"
_NO_ADDRESS: Final = "consul.address"
"""Present and empty when none was given."""
_ACCESS: Final = ("access", "")


class Selection(NamedTuple):
    """Instances that may be called, and what that depends on."""

    instances: list[Instance]
    interests: tuple[Interest, ...]


@lru_cache(maxsize=65_536)
def packed(address: str) -> bytes | None:
    """An address as four or sixteen bytes; None for a host name."""
    try:
        return ipaddress.ip_address(address).packed
    except ValueError:
        return None


def own_address(instance: Instance) -> bool:
    """Whether it was registered with an address; otherwise it has that of its node."""
    return instance.extra.get(_NO_ADDRESS) != ""


def warning(instance: Instance) -> bool:
    """Whether its checks warn: it may be called, but perhaps should not."""
    evidence = instance.evidence
    return evidence.probe is Verdict.UP and bool(evidence.probe_output)


def weight(instance: Instance) -> int:
    """Its weight as SRV has it, 0 to 65535; one that warns has a weight of its own."""
    if warning(instance):
        text = instance.extra.get(_WARNING_WEIGHT, "")
        if text.isdecimal():
            return min(int(text), _WEIGHT_MAX)
        return 1
    if instance.weight <= 0:
        return 0
    return min(max(1, round(instance.weight)), _WEIGHT_MAX)


class Catalogue:
    """Look-ups without regard to case, as names in DNS are (RFC 4343)."""

    def __init__(self, options: DnsOptions) -> None:
        self._options = options
        self._folded_nodes: dict[str, str] = {}
        self._folded_revision = -1
        self._reverse = _Reverse()

    # --- services

    def select(self, reader: Reader, name: str, tag: str) -> Selection:
        """Instances of a service that may be called."""
        exact = ServiceKey(DEFAULT_NAMESPACE, DEFAULT_GROUP, name)
        keys = (exact, *reader.namesakes(exact))
        found: list[Instance] = []
        for key in keys:
            try:
                found += reader.instances(key, callable_only=True)
            except (Denied, Unauthenticated):
                # Consul leaves out what a token may not see, so the name is not there for it.
                continue
        if found:
            return Selection(self.usable(found, tag), (*keys, _ACCESS))
        if name == "consul":
            found = self.usable([self._server()], tag)
        # Whatever is registered next may be the one, under a name with capitals too.
        return Selection(found, (*keys, _ACCESS, ("services", DEFAULT_NAMESPACE)))

    def usable(self, instances: Iterable[Instance], tag: str = "") -> list[Instance]:
        """Those with the tag (in any case) that may be called under the options."""
        chosen = list(instances)
        if tag:
            chosen = [instance for instance in chosen if any(own.lower() == tag for own in instance.tags)]
        if self._options.only_passing:
            chosen = [instance for instance in chosen if not warning(instance)]
        return chosen

    def _server(self) -> Instance:
        """Consul's servers show themselves as the service ``consul``; ours is this node."""
        return Instance(
            key=ServiceKey(DEFAULT_NAMESPACE, DEFAULT_GROUP, "consul"), id="consul", address=self._options.address,
            port=8300, node=self._options.node, extra={_NO_ADDRESS: ""},
        )  # fmt: skip

    # --- nodes

    def node(self, reader: Reader, name: str) -> Node | None:
        """A node by its name in any case; this one is always there."""
        found = self._exact_node(reader, name)
        if found is None:
            revision = reader.nodes_revision()
            if revision != self._folded_revision:
                self._folded_nodes = {
                    node.name.lower(): node.name for node in reader.nodes() if node.name != node.name.lower()
                }
                self._folded_revision = revision
            real = self._folded_nodes.get(name.lower())
            found = self._exact_node(reader, real) if real is not None else None
        if found is None and name.lower() == self._options.node.lower():
            return Node(name=self._options.node, address=self._options.address)
        return found

    def own_node(self, reader: Reader) -> Node:
        """This node, with the address the catalogue has for it."""
        found = self._exact_node(reader, self._options.node)
        return found or Node(name=self._options.node, address=self._options.address)

    def _exact_node(self, reader: Reader, name: str) -> Node | None:
        try:
            return reader.node(name)
        except (NotFound, Denied, Unauthenticated):
            return None

    # --- addresses

    def owner(self, reader: Reader, address: bytes, now_ms: int) -> tuple[Node | None, str]:
        """Who has an address: a node, or else the name of a service ('' for nobody)."""
        if packed(self._options.address) == address:
            return self.own_node(reader), ""
        self._reverse.renew(reader, now_ms)
        node = self._reverse.nodes.get(address)
        if node is not None:
            return self._exact_node(reader, node), ""
        key = self._reverse.services.get(address)
        if key is None:
            return None, ""
        try:
            reader.service(key)
        except (NotFound, Denied, Unauthenticated):
            return None, ""
        return None, key.name


class _Reverse:
    """Addresses and who has them: looked through when asked for, and then not again for a while."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, str] = {}
        self.services: dict[bytes, ServiceKey] = {}
        self._position = -1
        self._at_ms = 0

    def renew(self, reader: Reader, now_ms: int) -> None:
        if reader.position == self._position or 0 <= now_ms - self._at_ms < limits.DNS_REVERSE_INTERVAL_MS:
            return
        self._position, self._at_ms = reader.position, now_ms
        self.nodes = {}
        for node in reader.nodes():
            address = packed(node.address)
            if address is not None:
                self.nodes.setdefault(address, node.name)
        self.services = {}
        services = [row for row in reader.services(DEFAULT_NAMESPACE) if row.key.group == DEFAULT_GROUP]
        if sum(row.instances for row in services) > limits.DNS_REVERSE_INSTANCES_MAX:
            return
        for row in services:
            for instance in reader.instances(row.key):
                # One without an address of its own has its node's.
                address = packed(instance.address) if own_address(instance) else None
                if address is not None:
                    self.services.setdefault(address, row.key)
