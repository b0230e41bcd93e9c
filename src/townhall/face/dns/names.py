"""What a name asks for: the labels of a question, read from the right (Consul's scheme)."""

from __future__ import annotations

from typing import Final, NamedTuple

from townhall.wire.dns_names import labels, name_of
from townhall.wire.dns_records import SRV

__all__ = [
    "Address",
    "Empty",
    "Foreign",
    "Kind",
    "NodeName",
    "QueryName",
    "Reverse",
    "ServiceName",
    "Unknown",
    "Zones",
    "read",
]


class ServiceName(NamedTuple):
    """Instances of a service, perhaps only those with a tag."""

    name: str
    tag: str = ""
    whole: str = ""
    """All labels as one service name, for names with dots in them; empty when it has but one."""


class NodeName(NamedTuple):
    """A node."""

    name: str


class QueryName(NamedTuple):
    """A prepared query, by name or id."""

    name: str


class Address(NamedTuple):
    """An address written in hexadecimal."""

    packed: bytes


class Reverse(NamedTuple):
    """The owner of an address."""

    packed: bytes


class Empty(NamedTuple):
    """A name that exists only because longer ones do. Resolvers that reveal a name label by label (RFC 9156) stop at
    one that is said not to exist.
    """


class Unknown(NamedTuple):
    """A name in our domain that cannot exist."""


class Foreign(NamedTuple):
    """A name of another domain."""


Kind = ServiceName | NodeName | QueryName | Address | Reverse | Empty | Unknown | Foreign

EMPTY: Final = Empty()
UNKNOWN: Final = Unknown()
FOREIGN: Final = Foreign()
_KINDS: Final = frozenset({b"service", b"connect", b"virtual", b"ingress", b"node", b"query", b"addr"})
_NAMED: Final = {b"connect", b"virtual", b"ingress"}
_V4_ARPA: Final = [b"in-addr", b"arpa"]
_V6_ARPA: Final = [b"ip6", b"arpa"]


class Zones:
    """The domains that are ours."""

    def __init__(self, domain: str, alt_domain: str = "") -> None:
        """Raises Malformed for a domain that is no name."""
        self._parts = [labels(name_of(text.lower())) for text in (domain, alt_domain) if text]

    def split(self, parts: list[bytes]) -> tuple[int, list[bytes]] | None:
        """Which of the domains a name (lower-case labels) is in, and its labels before that; None for none."""
        for index, domain in enumerate(self._parts):
            if parts[-len(domain) :] == domain:
                return index, parts[: -len(domain)]
        return None


def read(parts: list[bytes], *, type_: int, datacenter: str) -> Kind:
    """What the labels before our domain ask for; they are in lower case."""
    for at in range(len(parts) - 1, -1, -1):
        label = parts[at]
        if label in _KINDS:
            return _within(label, parts[:at]) if _here(parts[at + 1 :], datacenter) else UNKNOWN
        if type_ == SRV and label.startswith(b"_"):
            # RFC 2782 style: the word "service" may be left out.
            return _within(b"service", parts[: at + 1]) if _here(parts[at + 1 :], datacenter) else UNKNOWN
    # Without a word that says its kind there are only the names above others: the apex and the datacenters.
    return EMPTY if _here(parts, datacenter) or parts == [b"dc"] else UNKNOWN


def read_reverse(parts: list[bytes]) -> Kind:
    """What a reverse name asks for (RFC 1035 §3.5, RFC 3596 §2.5)."""
    zone, digits = parts[-2:], parts[-3::-1]
    if zone == _V4_ARPA:
        bytes_ = [int(part) for part in digits if part.isdigit() and len(part) <= 3 and int(part) < 256]
        if len(bytes_) != len(digits) or len(digits) > 4:
            return UNKNOWN
        return Reverse(bytes(bytes_)) if len(digits) == 4 else EMPTY
    if zone == _V6_ARPA:
        if len(digits) > 32 or not all(len(part) == 1 and part in b"0123456789abcdef" for part in digits):
            return UNKNOWN
        return Reverse(bytes.fromhex(b"".join(digits).decode())) if len(digits) == 32 else EMPTY
    return FOREIGN


def _here(suffix: list[bytes], datacenter: str) -> bool:
    """Whether what stands behind the kind is nothing, ``DC`` or ``DC.dc``, and the datacenter is ours."""
    if not suffix:
        return True
    if len(suffix) == 2 and suffix[1] == b"dc":
        suffix = suffix[:1]
    return len(suffix) == 1 and suffix[0] == datacenter.lower().encode()


def _within(kind: bytes, parts: list[bytes]) -> Kind:
    if not parts:
        return EMPTY
    texts = [part.decode("utf-8", "replace") for part in parts]
    if kind == b"service":
        return _service(texts)
    if kind == b"node":
        return NodeName(".".join(texts))
    if kind == b"query":
        if len(texts) == 2 and texts[0].startswith("_") and texts[1].startswith("_"):
            return QueryName(texts[0][1:])
        return QueryName(".".join(texts))
    if kind == b"addr":
        return _address(parts)
    # No mesh: a service has no proxies, no virtual address and no ingress.
    return UNKNOWN


def _service(texts: list[str]) -> Kind:
    if texts[-1].startswith("_") and len(texts) <= 2:
        if len(texts) == 1:
            return EMPTY
        if texts[0].startswith("_"):
            tag = texts[1][1:]
            return ServiceName(texts[0][1:], "" if tag == "tcp" else tag)
    if len(texts) == 1:
        return ServiceName(texts[0])
    return ServiceName(texts[-1], ".".join(texts[:-1]), ".".join(texts))


def _address(parts: list[bytes]) -> Kind:
    digits = parts[0]
    if len(parts) != 1 or len(digits) not in (8, 32):
        return UNKNOWN
    try:
        return Address(bytes.fromhex(digits.decode("ascii")))
    except ValueError:
        return UNKNOWN
