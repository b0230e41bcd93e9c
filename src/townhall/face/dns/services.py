"""Records for the instances of a service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from townhall.face.dns.catalogue import own_address, packed, weight
from townhall.face.dns.zones import Zone, address_record, meta_records
from townhall.model import limits
from townhall.model.errors import Malformed
from townhall.wire.dns_names import name_of
from townhall.wire.dns_records import AAAA, ANY, CNAME, SRV, A, Record, Srv

if TYPE_CHECKING:
    from townhall.core.queries import Reader
    from townhall.face.dns import DnsOptions
    from townhall.face.dns.catalogue import Catalogue
    from townhall.model.instance import Instance

__all__ = ["ADDRESS_TYPES", "Listed", "Places", "addresses", "locations", "ttl_of"]

ADDRESS_TYPES = frozenset({A, AAAA, ANY})


class Listed(NamedTuple):
    """Answers, and what goes with each of them."""

    answers: Sequence[Record]
    extras: Sequence[tuple[Record, ...]] = ()


def ttl_of(options: DnsOptions, service: str) -> int:
    """Seconds that answers about a service may be kept: its own entry, else the longest prefix with ``*``."""
    ttls = options.service_ttls_s
    exact = ttls.get(service)
    if exact is not None:
        return exact
    prefixes = [name for name in ttls if name.endswith("*") and service.startswith(name[:-1])]
    return ttls[max(prefixes, key=len)] if prefixes else 0


def addresses(name: bytes, instances: Sequence[Instance], *, type_: int, ttl_s: int, count_max: int) -> Listed:
    """A and AAAA, each address once. A host name gives CNAME, but only where no address is known at all, and only one:
    a name has one alias at most (RFC 1034 §3.6.2).
    """
    # Weight 0 says: no new calls. Here it cannot be told otherwise, unless nobody else is left.
    open_ = [instance for instance in instances if instance.weight > 0] or instances
    found: dict[bytes, Record] = {}
    alias: Record | None = None
    for instance in open_:
        record = address_record(name, instance.address, ttl_s)
        if record is None:
            continue
        if record.type == CNAME:
            alias = alias or record
        elif type_ in (ANY, record.type):
            assert isinstance(record.data, bytes)
            found.setdefault(record.data, record)
        else:
            continue
        if count_max and len(found) >= count_max:
            break
    if found:
        return Listed(list(found.values()))
    return Listed([alias] if alias is not None else [])


class Places:
    """Where SRV answers lead: names, and the records that say what stands behind them."""

    def __init__(self, catalogue: Catalogue, reader: Reader, zone: Zone, options: DnsOptions) -> None:
        self._catalogue = catalogue
        self._reader = reader
        self._zone = zone
        self._options = options

    def target(self, instance: Instance, ttl_s: int) -> tuple[bytes, tuple[Record, ...]] | None:
        """The name to lead to, with its records; None when the address cannot be written as a name."""
        bytes_ = packed(instance.address)
        if instance.node and not own_address(instance):
            name = self._zone.node_name(instance.node)
            if name is not None:
                return name, self._node(name, instance, ttl_s)
        if bytes_ is None:
            try:
                return name_of(instance.address), ()
            except Malformed:
                return None
        name = self._zone.address_name(bytes_)
        return name, (Record(name, A if len(bytes_) == 4 else AAAA, ttl_s, bytes_),)

    def _node(self, name: bytes, instance: Instance, ttl_s: int) -> tuple[Record, ...]:
        node = self._catalogue.node(self._reader, instance.node)
        address = address_record(name, node.address if node is not None else instance.address, ttl_s)
        records = [] if address is None else [address]
        if node is not None and self._options.node_meta_txt:
            records += meta_records(name, node.meta, ttl_s, limits.DNS_TEXT_COUNT_MAX)
        return tuple(records)


def locations(places: Places, *, name: bytes, instances: Sequence[Instance], ttl_s: int) -> Listed:
    """SRV (RFC 2782): one for each place, priority 1, with the addresses of the targets."""
    answers: list[Record] = []
    extras: list[tuple[Record, ...]] = []
    seen: set[tuple[bytes, int]] = set()
    told: set[bytes] = set()
    for instance in instances:
        place = places.target(instance, ttl_s)
        if place is None or (place[0], instance.port) in seen:
            continue
        target, records = place
        seen.add((target, instance.port))
        answers.append(Record(name, SRV, ttl_s, Srv(1, weight(instance), instance.port, target)))
        extras.append(() if target in told else records)
        told.add(target)
    return Listed(answers, extras)
