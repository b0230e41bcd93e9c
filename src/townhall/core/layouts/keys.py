"""Keys of layouts: ``<prefix><service>/<rest>``.

The service is named relative to the last slash of the prefix, so the prefix ``user.`` covers the keys of ``user.rpc``
and ``user.api`` and leaves the others alone. ``rest`` is the instance's id with its slashes percent-encoded: a key
with another slash belongs to a deeper prefix, which needs a tie of its own, and is simply a key.
"""

from __future__ import annotations

from typing import NamedTuple

from townhall.core.keyspace import TO_THE_END
from townhall.model import limits, names
from townhall.model.errors import InvalidField

__all__ = ["Place", "key_of", "place_of", "prefix_end"]


class Place(NamedTuple):
    """What a key says by itself."""

    service: str
    id: str


def key_of(prefix: bytes, place: Place) -> bytes:
    """The key of an instance; it lies below the prefix when ``place_of`` found it there or the prefix ends in "/"."""
    rest = place.id.replace("%", "%25").replace("/", "%2F")
    return prefix[: prefix.rfind(b"/") + 1] + f"{place.service}/{rest}".encode()


def place_of(prefix: bytes, key: bytes) -> Place | None:
    """The names in a key; None when it is not of this prefix and form, or its names cannot be those of an instance."""
    if not key.startswith(prefix) or len(key) > limits.KEY_SIZE_MAX:
        return None
    try:
        service, slash, rest = key[prefix.rfind(b"/") + 1 :].decode().partition("/")
        if not slash or "/" in rest:
            return None
        id_ = rest.replace("%2F", "/").replace("%25", "%")
        return Place(names.service(service), names.instance_id(id_))
    except (InvalidField, UnicodeDecodeError):
        return None


def prefix_end(prefix: bytes) -> bytes:
    """The first key after all that begin with the prefix; TO_THE_END when there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else TO_THE_END
