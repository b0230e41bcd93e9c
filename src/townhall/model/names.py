"""What names, addresses and values may look like: one check each, used by every face.

Each function returns the value or raises ``InvalidField`` with the field's name, what is wrong and what is allowed.
The rules are wide enough for the names that the clients of all protocols use (Dubbo's colons, Nacos' ``@@`` and
``#``, Spring's dots) and narrow enough to be safe in a URL, a log line and a DNS answer.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping, Sequence

from townhall.model import limits
from townhall.model.errors import InvalidField

__all__ = [
    "address",
    "instance_id",
    "label",
    "metadata",
    "namespace",
    "port",
    "ports",
    "service",
    "tags",
    "text",
    "weight",
]

_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# '%' would be ambiguous once percent-decoded twice; invisible and bidirectional characters would deceive a reader.
_NOT_IN_SERVICE = re.compile(r"[ /?%\\\"<>|]")
_NOT_IN_INSTANCE_ID = re.compile(r"[ \"<>\\]")
_HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
# Dotted IPv4 that may be called: no leading zeros, not 0.0.0.0/8, below multicast. What else there is, ipaddress judges.
_IPV4 = re.compile(r"(?:[1-9]\d?|1\d\d|2[01]\d|22[0-3])(?:\.(?:\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])){3}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def _size(field: str, value: str, size_max: int) -> str:
    if not value:
        raise InvalidField(field, "must not be empty")
    if len(value) > size_max or (not value.isascii() and len(value.encode("utf-8", "surrogatepass")) > size_max):
        raise InvalidField(field, f"longer than {size_max} bytes")
    return value


def namespace(value: str, field: str = "namespace") -> str:
    """A namespace or group: letters, digits, ``. _ -``, not starting with a dot or hyphen."""
    _size(field, value, limits.NAMESPACE_SIZE_MAX)
    if not _NAMESPACE.fullmatch(value):
        raise InvalidField(field, f"{value!r} may hold letters, digits, '.', '_' and '-' only")
    return value


def service(value: str, field: str = "service") -> str:
    r"""A service name: printable, without white space and without ``/ ? % \ " < > |``."""
    _size(field, value, limits.SERVICE_SIZE_MAX)
    if not value.isprintable() or _NOT_IN_SERVICE.search(value):
        raise InvalidField(
            field, f'{value!r} must not hold white space, invisible characters or any of / ? % \\ " < > |'
        )
    return value


def instance_id(value: str, field: str = "id") -> str:
    """An instance id: printable, without white space and without quotes, angle brackets and backslash."""
    _size(field, value, limits.INSTANCE_ID_SIZE_MAX)
    if not value.isprintable() or _NOT_IN_INSTANCE_ID.search(value):
        raise InvalidField(field, f'{value!r} must not hold white space, invisible characters or any of \\ " < >')
    return value


def _plain(joined: str, size_max: int) -> bool:
    """Whether texts are fine one by one because they are so all together: nearly always, and at a fraction of the cost."""
    return len(joined) <= size_max and joined.isascii() and joined.isprintable()


def address(value: str, field: str = "address") -> str:
    """An IPv4 or IPv6 address without brackets, or a host name (RFC 1123, underscores allowed), not unspecified."""
    if _IPV4.fullmatch(value):
        return value
    _size(field, value, limits.ADDRESS_SIZE_MAX)
    try:
        ip = ipaddress.ip_address(value)
    except ValueError:
        pass
    else:
        if ip.is_unspecified or ip.is_multicast:
            raise InvalidField(
                field, f"{value} cannot be called", advice="register the address under which callers reach the service"
            )
        return value
    labels = value.removesuffix(".").split(".")
    if labels[-1].isdigit() or not all(_HOST_LABEL.fullmatch(part) for part in labels):
        raise InvalidField(field, f"{value!r} is neither an IP address nor a host name")
    return value


def port(value: int, field: str = "port", *, zero: bool = False) -> int:
    """A port from 1 to 65535, or 0 as well ("none") when ``zero`` is set."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidField(field, f"{value!r} is not a whole number")
    if not (0 if zero else 1) <= value <= limits.PORT_MAX:
        raise InvalidField(field, f"{value} is not between {0 if zero else 1} and {limits.PORT_MAX}")
    return value


def ports(value: Mapping[str, int], field: str = "ports") -> dict[str, int]:
    """Further named ports."""
    if len(value) > limits.PORTS_COUNT_MAX:
        raise InvalidField(field, f"{len(value)} ports, at most {limits.PORTS_COUNT_MAX}")
    return {label(name, f"{field}.{name}"): port(number, f"{field}.{name}") for name, number in value.items()}


def weight(value: float, field: str = "weight") -> float:
    """A finite number from 0 (no new calls) to 65535."""
    number = float(value)
    if not math.isfinite(number) or not 0 <= number <= limits.WEIGHT_MAX:
        raise InvalidField(field, f"{value} is not between 0 and {limits.WEIGHT_MAX:g}")
    return number


def label(value: str, field: str, *, empty: bool = False) -> str:
    """A short printable text on one line: region, zone, cluster, node, claim."""
    if empty and not value:
        return value
    _size(field, value, limits.LABEL_SIZE_MAX)
    if not value.isprintable():
        raise InvalidField(field, "holds control or invisible characters")
    return value


def text(value: str, field: str, *, size_max: int) -> str:
    """Free text of at most ``size_max`` bytes without control characters other than tab and newline; may be empty."""
    if len(value) > size_max or (not value.isascii() and len(value.encode("utf-8", "surrogatepass")) > size_max):
        raise InvalidField(field, f"longer than {size_max} bytes")
    if not value.isprintable() and _CONTROL.search(value.replace("\n", "")):
        raise InvalidField(field, "holds control characters")
    return value


def tags(value: Sequence[str], field: str = "tags") -> tuple[str, ...]:
    """Tags in the order given; a repeated tag counts once."""
    if len(value) > limits.TAGS_COUNT_MAX:
        raise InvalidField(field, f"{len(value)} tags, at most {limits.TAGS_COUNT_MAX}")
    if "" not in value and _plain("".join(value), limits.TAG_SIZE_MAX):
        return tuple(dict.fromkeys(value))
    for tag in value:
        if not tag:
            raise InvalidField(field, "an empty tag")
        text(tag, field, size_max=limits.TAG_SIZE_MAX)
    return tuple(dict.fromkeys(value))


def metadata(value: Mapping[str, str], field: str = "metadata") -> dict[str, str]:
    """Metadata: string keys (not empty) and string values."""
    if len(value) > limits.METADATA_COUNT_MAX:
        raise InvalidField(field, f"{len(value)} entries, at most {limits.METADATA_COUNT_MAX}")
    if (
        "" not in value
        and _plain("".join(value), limits.METADATA_KEY_SIZE_MAX)
        and _plain("".join(value.values()), limits.METADATA_VALUE_SIZE_MAX)
    ):
        return dict(value)
    size = 0
    for key, content in value.items():
        if not key:
            raise InvalidField(field, "an empty key")
        text(key, f"{field}.{key[:32]}", size_max=limits.METADATA_KEY_SIZE_MAX)
        text(content, f"{field}.{key}", size_max=limits.METADATA_VALUE_SIZE_MAX)
        size += len(key) + len(content)
    if size > limits.METADATA_SIZE_MAX:
        raise InvalidField(field, f"{size} characters in all, at most {limits.METADATA_SIZE_MAX}")
    return dict(value)
