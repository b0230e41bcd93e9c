"""DNS: a question and a Reader give an answer; names as Consul's clients write them.

``answering.DnsFace.resolve(query, reader, asked)`` decides what the answer is, ``sizes.fit`` how much of it fits the
transport, and ``wire.dns.render`` makes bytes of that. Sockets, recursors and limits of rate are ``serve``'s.

====================================  ===================================================================
``[TAG.]NAME.service[.DC]``           instances of a service: A, AAAA, ANY, SRV
``_NAME._TAG[.service][.DC]``         the same, RFC 2782; ``_tcp`` stands for no tag
``NAME.node[.DC]``                    a node: A, AAAA, TXT (its metadata), ANY
``NAME.query[.DC]``                   a prepared query
``HEX.addr[.DC]``                     an address in hexadecimal: what SRV answers lead to
reverse names                         PTR to a node, else to a service
====================================  ===================================================================

Nothing here reads a clock or draws a random number: ``Asked`` brings both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from townhall.model import limits

if TYPE_CHECKING:
    from townhall.core import Interest
    from townhall.core.queries import Reader
    from townhall.model.instance import Instance
    from townhall.wire.dns import Question
    from townhall.wire.dns_records import Record

__all__ = ["Asked", "DnsOptions", "Found", "PreparedQueries", "Resolution"]


class DnsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What may be set about DNS. Times to live are seconds."""

    node: str = "townhall"
    """Name of this node, which is the name server of the domain."""
    datacenter: str = "dc1"
    address: str = "127.0.0.1"
    """This node's own address, as long as the catalogue has none for it."""
    domain: str = "consul"
    alt_domain: str = ""
    """A second domain that answers alike; empty for none."""
    only_passing: bool = False
    """Leave out instances with a warning, too."""
    node_ttl_s: int = 0
    service_ttls_s: Mapping[str, int] = {}
    """Service → its time to live: an exact name, or a prefix that ends in ``*``; the longest one counts."""
    a_record_limit: int = 0
    """Most A or AAAA records of one answer, whatever would fit; 0 for no such limit."""
    answers_udp_max: int = limits.DNS_ANSWERS_UDP_MAX
    """Most answers over UDP to a client without EDNS."""
    node_meta_txt: bool = True
    """Add the metadata of nodes to answers that lead to them."""
    recursion: bool = False
    """There are recursors to ask for names of other domains."""


class Asked(msgspec.Struct, frozen=True):
    """What a question comes with that is not in it."""

    now_ms: int
    shuffle: Callable[[list[Instance]], None]
    """Brings a list into random order."""


class Resolution(msgspec.Struct, kw_only=True):
    """What the answer is, before its size is known."""

    rcode: int = 0
    authoritative: bool = True
    answers: Sequence[Record] = ()
    extras: Sequence[tuple[Record, ...]] = ()
    """What goes with each answer into the additional section; empty, or as long as ``answers``."""
    additional: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    interests: tuple[Interest, ...] | None = None
    """What the answer depends on; None when that cannot be said, so that it must not be kept."""
    forward: bool = False
    """The name is not ours: ask a recursor and pass on what it says."""
    chase: Question | None = None
    """The last answer is an alias of this name of another domain: a recursor may know more."""


class Found(msgspec.Struct, frozen=True):
    """What a prepared query gives."""

    instances: Sequence[Instance]
    """In the order in which they are to be given; they are not shuffled any more."""
    ttl_s: int | None = None
    """The query's own time to live."""
    datacenter: str = ""
    """Where they are; empty for this one."""


class PreparedQueries(Protocol):
    """The store of prepared queries, as far as DNS needs it."""

    def execute(self, reader: Reader, name: str) -> Found | None:
        """Run a query by name or id; None when there is none. Raises TownhallError when it cannot be run."""
        ...
