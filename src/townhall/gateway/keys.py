"""What a request is told apart by: for balancers that hash, and for rates. Pure."""

from __future__ import annotations

from townhall.gateway.requests import RequestHead
from townhall.model.errors import InvalidField

__all__ = ["check_source", "key_of"]


def check_source(source: str, *, field: str) -> None:
    """Raises ``InvalidField`` for what is no source of keys."""
    kind, colon, name = source.partition(":")
    if source in ("address", "path") or (colon and name and kind in ("header", "cookie")):
        return
    raise InvalidField(field, f"{source!r} is none of address, path, header:NAME and cookie:NAME")


def key_of(source: str, head: RequestHead, address: str) -> bytes:
    """The key of a request; a field or cookie that is not there gives the client's address."""
    kind, _, name = source.partition(":")
    if kind == "path":
        return head.path
    if kind == "header":
        value = head.fields.by_name.get(name.lower().encode("ascii"), b"")
    elif kind == "cookie":
        value = _cookie(head.fields.by_name.get(b"cookie", b""), name.encode("ascii"))
    else:
        value = b""
    return value or address.encode("ascii", "replace")


def _cookie(line: bytes, wanted: bytes) -> bytes:
    for pair in line.replace(b",", b";").split(b";"):
        name, _, value = pair.strip(b" \t").partition(b"=")
        if name == wanted:
            return value
    return b""
