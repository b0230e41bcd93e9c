"""The face: from a question to what the answer is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from townhall.face.dns import Asked, DnsOptions, PreparedQueries, Resolution
from townhall.face.dns import names as kinds
from townhall.face.dns.catalogue import Catalogue
from townhall.face.dns.services import ADDRESS_TYPES, Listed, Places, addresses, locations, ttl_of
from townhall.face.dns.zones import Zone, address_record, meta_records
from townhall.model import limits
from townhall.model.errors import TownhallError
from townhall.wire.dns import (
    BADVERS,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
    OPCODE_QUERY,
    REFUSED,
    SERVFAIL,
    Query,
    Question,
)
from townhall.wire.dns_names import labels
from townhall.wire.dns_records import (
    AAAA,
    ANY,
    AXFR,
    CNAME,
    IN,
    IXFR,
    NS,
    PTR,
    SOA,
    SRV,
    TXT,
    A,
    Record,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from townhall.core import Interest
    from townhall.core.queries import Reader
    from townhall.model.instance import Instance

__all__ = ["DnsFace"]

_NO_INTERESTS: Final[tuple[Interest, ...]] = ()


class DnsFace:
    """Answers questions from the catalogue. Raises Malformed when made with a domain that is no possible name."""

    name = "dns"

    def __init__(self, options: DnsOptions, queries: PreparedQueries | None = None) -> None:
        self.options = options
        self._queries = queries
        self._catalogue = Catalogue(options)
        self._zones = kinds.Zones(options.domain, options.alt_domain)
        self._zone_list = [Zone(text.lower(), options) for text in (options.domain, options.alt_domain) if text]

    def resolve(self, query: Query, reader: Reader, asked: Asked) -> Resolution:
        """What the answer is. Never raises for anything that a client may send."""
        if query.header.opcode != OPCODE_QUERY:
            return Resolution(rcode=NOTIMP, authoritative=False)
        if query.edns is not None and query.edns.version != 0:
            return Resolution(rcode=BADVERS, authoritative=False)
        if query.question.class_ != IN:
            return Resolution(rcode=REFUSED, authoritative=False)
        parts = labels(query.question.name.lower())
        found = self._zones.split(parts)
        if found is not None:
            zone = self._zone_list[found[0]]
            return _Answering(self, zone, query, reader, asked).within(found[1])
        kind = kinds.read_reverse(parts)
        forward = self.options.recursion and query.header.recursion_desired
        if not isinstance(kind, kinds.Foreign):
            result = _Answering(self, self._zone_list[0], query, reader, asked).reverse(kind)
            if result is not None or not forward:
                return result or _Answering(self, self._zone_list[0], query, reader, asked).missing(None)
        return Resolution(rcode=NOERROR if forward else REFUSED, authoritative=False, forward=forward)

    # --- for one question

    @property
    def catalogue(self) -> Catalogue:
        """Where things are looked up."""
        return self._catalogue

    @property
    def queries(self) -> PreparedQueries | None:
        """The store of prepared queries, when there is one."""
        return self._queries

    def inner(self, name: bytes) -> tuple[Zone, list[bytes]] | None:
        """The zone of a name in our domains and the labels before it; None for a name of others."""
        found = self._zones.split(labels(name.lower()))
        return None if found is None else (self._zone_list[found[0]], found[1])


class _Answering:
    """One question on its way to its answer."""

    def __init__(self, face: DnsFace, zone: Zone, query: Query, reader: Reader, asked: Asked) -> None:
        self._face = face
        self._options = face.options
        self._zone = zone
        self._query = query
        self._question: Question = query.question
        self._reader = reader
        self._asked = asked
        self._depth = 0

    # --- names in our domain

    def within(self, parts: list[bytes]) -> Resolution:
        """Answer a name in our domain, by the labels before it."""
        type_ = self._question.type
        if type_ in (AXFR, IXFR):
            return Resolution(rcode=NOTIMP, authoritative=False)
        if type_ in (SOA, NS):
            return self._authority(type_)
        kind = kinds.read(parts, type_=type_, datacenter=self._options.datacenter)
        match kind:
            case kinds.ServiceName():
                return self._service(kind)
            case kinds.NodeName():
                return self._node(kind.name)
            case kinds.QueryName():
                return self._prepared(kind.name)
            case kinds.Address():
                return self._address(kind.packed)
            case kinds.Empty():
                return self.empty(_NO_INTERESTS)
            case _:
                return self.missing(_NO_INTERESTS)

    def missing(self, interests: tuple[Interest, ...] | None) -> Resolution:
        """There is no such name (RFC 2308: with the SOA)."""
        return Resolution(rcode=NXDOMAIN, authority=(self._soa(),), interests=interests)

    def empty(self, interests: tuple[Interest, ...] | None, additional: tuple[Record, ...] = ()) -> Resolution:
        """The name is there, but nothing of this type (RFC 2308: with the SOA)."""
        return Resolution(authority=(self._soa(),), additional=additional, interests=interests)

    def _soa(self) -> Record:
        return self._zone.soa(self._asked.now_ms // 1000)

    def _authority(self, type_: int) -> Resolution:
        node = self._face.catalogue.own_node(self._reader)
        servers, glue = self._zone.servers(node, self._options.node_ttl_s)
        # The SOA's serial is the time, so it is not kept.
        if type_ == SOA:
            return Resolution(answers=(self._soa(),), authority=servers, additional=glue)
        return Resolution(answers=servers, additional=glue)

    # --- services

    def _service(self, asked: kinds.ServiceName) -> Resolution:
        select = self._face.catalogue.select
        selection = select(self._reader, asked.name, asked.tag)
        interests = selection.interests
        service = asked.name
        if not selection.instances and asked.whole:
            # Names with dots (Java packages) cannot be told from tags, which therefore go first.
            selection = select(self._reader, asked.whole, "")
            interests = (*interests, *selection.interests)
            service = asked.whole
        instances = selection.instances
        if not instances:
            return self.missing(interests)
        self._asked.shuffle(instances)
        return self._instances(instances, ttl_of(self._options, service), interests)

    def _prepared(self, name: str) -> Resolution:
        queries = self._face.queries
        if queries is None:
            return self.missing(None)
        try:
            found = queries.execute(self._reader, name)
        except TownhallError:
            return Resolution(rcode=SERVFAIL)
        if found is None:
            return self.missing(None)
        instances = self._face.catalogue.usable(found.instances)
        if not instances:
            return self.missing(None)
        ttl_s = found.ttl_s
        if ttl_s is None:
            ttl_s = ttl_of(self._options, instances[0].key.name)
        return self._instances(instances, ttl_s, None)

    def _instances(
        self, instances: Sequence[Instance], ttl_s: int, interests: tuple[Interest, ...] | None
    ) -> Resolution:
        name, type_ = self._question.name, self._question.type
        listed = Listed(())
        if type_ in ADDRESS_TYPES or type_ == CNAME:
            listed = addresses(name, instances, type_=type_, ttl_s=ttl_s, count_max=self._options.a_record_limit)
        elif type_ == SRV:
            places = Places(self._face.catalogue, self._reader, self._zone, self._options)
            listed = locations(places, name=name, instances=instances, ttl_s=ttl_s)
        if not listed.answers:
            return self.empty(interests)
        return self._follow(Resolution(answers=listed.answers, extras=listed.extras, interests=interests))

    # --- nodes and addresses

    def _node(self, name: str) -> Resolution:
        node = self._face.catalogue.node(self._reader, name)
        if node is None:
            return self.missing((("node", name), ("nodes", "")))
        interests: tuple[Interest, ...] = (("node", node.name), ("nodes", ""), ("access", ""))
        type_, owner, ttl_s = self._question.type, self._question.name, self._options.node_ttl_s
        answers = []
        address = address_record(owner, node.address, ttl_s)
        if address is not None and (type_ in (ANY, address.type) or (address.type == CNAME and type_ in ADDRESS_TYPES)):
            answers.append(address)
        meta = meta_records(owner, node.meta, ttl_s, limits.DNS_TEXT_COUNT_MAX)
        if type_ in (TXT, ANY):
            answers += meta
        if not answers:
            return self.empty(interests)
        extra = type_ in (A, AAAA) and self._options.node_meta_txt
        extras = [tuple(meta) if extra and at == 0 else () for at in range(len(answers))]
        return self._follow(Resolution(answers=answers, extras=extras, interests=interests))

    def _address(self, bytes_: bytes) -> Resolution:
        type_ = A if len(bytes_) == 4 else AAAA
        record = Record(self._question.name, type_, self._options.node_ttl_s, bytes_)
        if self._question.type in (type_, ANY):
            return Resolution(answers=(record,), interests=_NO_INTERESTS)
        return self.empty(_NO_INTERESTS, (record,))

    def _follow(self, resolution: Resolution) -> Resolution:
        """An alias as the only answer: add what it leads to, when that is ours, or say that a recursor may know."""
        first = resolution.answers[0]
        if first.type != CNAME or self._question.type == CNAME:
            return resolution
        assert isinstance(first.data, Target)
        target = first.data.name
        inner = self._face.inner(target)
        if inner is None:
            if self._options.recursion and self._query.header.recursion_desired:
                resolution.chase = Question(target, self._question.type)
                # What others answer has its own time, which we do not watch.
                resolution.interests = None
            return resolution
        if self._depth >= limits.DNS_ALIAS_DEPTH_MAX:
            return resolution
        query = self._query._replace(question=Question(target, self._question.type))
        further = _Answering(self._face, inner[0], query, self._reader, self._asked)
        further._depth = self._depth + 1
        found = further.within(inner[1])
        resolution.answers = [*resolution.answers, *found.answers]
        resolution.extras = ()
        resolution.chase = found.chase
        known = resolution.interests is not None and found.interests is not None
        resolution.interests = (*(resolution.interests or ()), *(found.interests or ())) if known else None
        return resolution

    # --- reverse names

    def reverse(self, kind: kinds.Kind) -> Resolution | None:
        """Who has this address; None when nobody here has, so that others may be asked."""
        if isinstance(kind, kinds.Empty) and not self._options.recursion:
            return self.empty(_NO_INTERESTS)
        if not isinstance(kind, kinds.Reverse):
            return None
        node, service = self._face.catalogue.owner(self._reader, kind.packed, self._asked.now_ms)
        target = None
        if node is not None:
            target = self._zone.node_name(node.name)
        elif service:
            target = self._zone.service_name(service)
        if target is None:
            return None
        if self._question.type not in (PTR, ANY):
            return self.empty(None)
        return Resolution(answers=(Record(self._question.name, PTR, self._options.node_ttl_s, Target(target)),))
