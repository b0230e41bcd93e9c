"""One domain of ours: the names that answers lead to, its SOA and NS records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from townhall.face.dns.catalogue import packed
from townhall.model.errors import Malformed
from townhall.wire.dns_names import join, labels, name_of
from townhall.wire.dns_records import AAAA, CNAME, NS, SOA, TXT, A, Record, Soa, Target, text_data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from townhall.face.dns import DnsOptions
    from townhall.model.check import Node

__all__ = ["Zone", "address_record", "meta_records"]

_REFRESH_S: Final = 3_600
_RETRY_S: Final = 600
_EXPIRE_S: Final = 86_400
_MINIMUM_S: Final = 0
"""How long misses may be remembered: not at all, as with Consul, so that what registers is found at once."""
_PLAIN_META: Final = "rfc1035-"
_TEXT_SIZE_MAX: Final = 4_096


def address_record(name: bytes, address: str, ttl_s: int) -> Record | None:
    """A, AAAA or, for a host name, CNAME; None for what is neither."""
    bytes_ = packed(address)
    if bytes_ is not None:
        return Record(name, A if len(bytes_) == 4 else AAAA, ttl_s, bytes_)
    try:
        return Record(name, CNAME, ttl_s, Target(name_of(address)))
    except Malformed:
        return None


def meta_records(name: bytes, meta: Mapping[str, str], ttl_s: int, count_max: int) -> list[Record]:
    """A node's metadata as TXT (RFC 1464: ``key=value``); keys that begin ``rfc1035-`` give the bare value."""
    found = []
    for key, value in list(meta.items())[:count_max]:
        text = value if key.startswith(_PLAIN_META) else f"{key}={value}"
        found.append(Record(name, TXT, ttl_s, text_data(text.encode()[:_TEXT_SIZE_MAX])))
    return found


class Zone:
    """A domain under which everything is found."""

    def __init__(self, domain: str, options: DnsOptions) -> None:
        """Raises Malformed when domain or datacenter is no possible name."""
        self.name = name_of(domain)
        self._datacenter = join(labels(name_of(options.datacenter)), self.name)
        self._addresses = join([b"addr"], self._datacenter)
        self._nodes = join([b"node"], self._datacenter)
        self._services = join([b"service"], self._datacenter)

    def node_name(self, node: str) -> bytes | None:
        """The name of a node; None when it cannot be one."""
        return _below(node, self._nodes)

    def service_name(self, service: str) -> bytes | None:
        """The name of a service; None when it cannot be one."""
        return _below(service, self._services)

    def address_name(self, bytes_: bytes) -> bytes:
        """The name that stands for an address."""
        return join([bytes_.hex().encode()], self._addresses)

    def soa(self, serial: int) -> Record:
        """The start of authority; ``serial`` is Unix time in seconds."""
        data = Soa(
            join([b"ns"], self.name), join([b"hostmaster"], self.name), serial & 0xFFFFFFFF,
            _REFRESH_S, _RETRY_S, _EXPIRE_S, _MINIMUM_S,
        )  # fmt: skip
        return Record(self.name, SOA, _MINIMUM_S, data)

    def servers(self, node: Node, ttl_s: int) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
        """NS records and the addresses that go with them."""
        name = self.node_name(node.name) or join([b"ns"], self.name)
        address = address_record(name, node.address, ttl_s)
        glue = () if address is None or address.type == CNAME else (address,)
        return (Record(self.name, NS, ttl_s, Target(name)),), glue


def _below(text: str, suffix: bytes) -> bytes | None:
    try:
        return join(labels(name_of(text)), suffix)
    except Malformed:
        return None
