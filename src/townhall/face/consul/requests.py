"""What every request may carry beside its path: datacenter, consistency, blocking, filter, and the body as Go reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from townhall.face import Request
from townhall.face.consul.durations import parse_duration
from townhall.face.consul.errors import bad
from townhall.face.consul.site import Site
from townhall.model import limits

__all__ = ["ReadOptions", "check_datacenter", "decode_body", "first", "flag", "read_options", "required"]

_UINT64_MAX = 18_446_744_073_709_551_615
_ENTERPRISE = {"ns": "Namespaces", "partition": "Partitions"}
_CACHE_DIRECTIVE = re.compile(r"(?:must-revalidate|no-cache|(?:max-age|stale-if-error)=\d+)")
_OFFSET = re.compile(r"invalid character \(byte (\d+)\)")
_USUAL = frozenset({"index", "wait", "passing", "tag", "raw", "recurse", "stale"})
"""What most reads have at most; they are not asked for two dozen other parameters."""
_TRUE, _FALSE = (
    frozenset({"1", "t", "T", "TRUE", "true", "True"}),
    frozenset({"0", "f", "F", "FALSE", "false", "False"}),
)


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters that all reads share."""

    index: int = 0
    """Answer when the index is greater than this; 0 answers at once."""
    wait_ms: int = limits.WAIT_DEFAULT_MS
    """How long to block at most; jitter is not in it."""
    hash: str = ""
    consistency: str = "leader"
    cached: bool = False
    pretty: bool = False
    filter: str = ""
    near: str = ""
    node_meta: tuple[tuple[str, str], ...] = ()
    peer: str = ""


def first(request: Request, name: str, default: str = "") -> str:
    """The first value of a query parameter."""
    values = request.query.get(name)
    return values[0] if values else default


def flag(request: Request, name: str) -> bool:
    """A parameter that needs no value, as ``?recurse`` or ``?raw``: whether it is there at all."""
    return name in request.query


def required(request: Request, name: str, missing: str) -> str:
    """A captured part of the path that must not be empty."""
    value = request.segments.get(name, "")
    if not value:
        raise bad(missing)
    return value


def boolean(text: str) -> bool | None:
    """A boolean as Go's strconv reads it; None for anything else."""
    return True if text in _TRUE else False if text in _FALSE else None


def check_datacenter(request: Request, site: Site, asked: str = "") -> None:
    """Refuse another datacenter than ours, and what only Consul Enterprise has."""
    query = request.query
    if not query and not asked:
        return
    for name, what in _ENTERPRISE.items():
        if name in query and first(request, name):
            raise bad(f'Invalid query parameter: "{name}" - {what} are a Consul Enterprise feature')
    datacenter = first(request, "datacenter") or first(request, "dc") or asked
    if datacenter and datacenter.lower() != site.datacenter.lower():
        raise bad("No path to datacenter")


def read_options(request: Request, site: Site) -> ReadOptions:
    """The common parameters of a read, checked. Raises ``Misuse`` in Consul's words."""
    query = request.query
    if not query:
        return ReadOptions(pretty=True) if site.pretty else _PLAIN
    if query.keys() <= _USUAL:
        index, wait_ms = _blocking(request)
        return ReadOptions(
            index=index, wait_ms=wait_ms, pretty=site.pretty, consistency="stale" if "stale" in query else "leader"
        )
    check_datacenter(request, site)
    if first(request, "sg") or first(request, "sameness-group"):
        raise bad("sameness groups are not supported in consul CE")
    index, wait_ms = _blocking(request)
    stale, consistent, cached = "stale" in query, "consistent" in query, "cached" in query
    if stale and consistent:
        raise bad("Cannot specify ?stale with ?consistent, conflicting semantics.")
    if cached and consistent:
        raise bad("Cannot specify ?cached with ?consistent, conflicting semantics.")
    max_stale = first(request, "max_stale")
    if max_stale:
        try:
            stale = parse_duration(max_stale) > 0 and not consistent
        except ValueError:
            raise bad(f'Invalid max_stale value "{max_stale}"') from None
    if cached:
        _check_cache_control(request.headers.get("cache-control", ""))
    return ReadOptions(
        index=index,
        wait_ms=wait_ms,
        hash=first(request, "hash"),
        consistency="consistent" if consistent else "stale" if stale else "leader",
        cached=cached,
        pretty=site.pretty or "pretty" in query,
        filter=first(request, "filter"),
        near=first(request, "near"),
        node_meta=tuple(_pair(value) for value in query.get("node-meta", ())),
        peer=first(request, "peer"),
    )


_PLAIN = ReadOptions()


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition(":")
    return key, value


def _blocking(request: Request) -> tuple[int, int]:
    wait, wait_ms = first(request, "wait"), limits.WAIT_DEFAULT_MS
    if wait:
        try:
            wait_ms = parse_duration(wait)
        except ValueError:
            raise bad("Invalid wait time") from None
        wait_ms = limits.WAIT_DEFAULT_MS if wait_ms == 0 else max(min(wait_ms, limits.WAIT_MAX_MS), 0)
    text = first(request, "index")
    if not text:
        return 0, wait_ms
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= _UINT64_MAX):
        raise bad("Invalid index")
    return int(text), wait_ms


def _check_cache_control(field: str) -> None:
    for part in field.split(",") if field else ():
        if _CACHE_DIRECTIVE.fullmatch(part.strip().lower()) is None:
            raise bad("Invalid Cache-Control header.")


def decode_body(request: Request, what: str = "Request decode failed") -> Any:
    """The JSON of a body. Raises ``Misuse`` with Go's words as far as clients show them."""
    body = request.body
    if not body.strip():
        raise bad(f"{what}: EOF")
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        message = str(error)
        if "truncated" in message:
            raise bad(f"{what}: unexpected EOF") from error
        raise bad(f"{what}: {_go_syntax(message, body)}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise bad(f"{what}: the body is not JSON that can be read") from error


def _go_syntax(message: str, body: bytes) -> str:
    found = _OFFSET.search(message)
    if found is None or int(found[1]) >= len(body):
        return message
    character = body[int(found[1]) :].decode("utf-8", "replace")[0]
    return f"invalid character '{character}' looking for beginning of value"


def texts(values: Sequence[str]) -> tuple[str, ...]:
    """The values of a repeated parameter that are not empty."""
    return tuple(value for value in values if value)
