"""The gateway's file (TOML) and its short form on the command line, as checked values. Pure.

Raises ``InvalidField`` that names the place and what is allowed; nothing is half read.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import Any, Final, TypeVar

import msgspec

from townhall.client.consumer import BY_NAME
from townhall.client.sources import parse_source
from townhall.gateway.keys import check_source
from townhall.gateway.options import GatewayOptions
from townhall.gateway.routes import Route, RouteTable
from townhall.model import limits, names
from townhall.model.durations import duration_ms
from townhall.model.errors import InvalidField

__all__ = ["FileConfig", "Log", "Registry", "Tls", "read_config", "read_route", "seconds"]

_UNIT_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE: Final = re.compile(r"(\d+)(KB|MB|GB|KiB|MiB|GiB|B)?")
_UNIT: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)/(s|m|h)")
_HOST: Final = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
_PATH: Final = re.compile(r"/[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*")
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TIMES: Final = frozenset(
    {
        "timeout", "connect_timeout", "first_byte_timeout", "idle_timeout", "whole_timeout", "header_timeout",
        "client_idle", "linger", "stop_timeout", "service_wait",
    }
)  # fmt: skip
_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_SIZES: Final = frozenset({"body_size_max", "header_size_max", "target_size_max"})


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the listeners' certificates are."""

    cert: str = ""
    key: str = ""


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The access log."""

    access: str = ""
    """A file, ``-`` for standard output, '' for none."""
    format: str = "text"
    """``text`` or ``json``."""


class Registry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where instances come from, and where we are."""

    server: str = ""
    namespace: str = ""
    zone: str = ""
    region: str = ""


class FileConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a file says."""

    listen: tuple[str, ...] = ()
    admin: str = ""
    options: GatewayOptions = GatewayOptions()
    tls: Tls = Tls()
    log: Log = Log()
    registry: Registry = Registry()
    routes: tuple[Route, ...] = ()


def read_config(text: str) -> FileConfig:
    """A whole file. Raises ``InvalidField``."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidField("file", f"this is not TOML: {error}") from error
    rows = raw.pop("route", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidField("route", "routes are written as [[route]]")
    if len(rows) > limits.PROXY_ROUTES_MAX:
        raise InvalidField("route", f"more than {limits.PROXY_ROUTES_MAX}")
    listen = raw.pop("listen", [])
    listen = [listen] if isinstance(listen, str) else listen
    admin = raw.pop("admin", "")
    if not isinstance(listen, list) or not all(isinstance(one, str) for one in [*listen, admin]):
        raise InvalidField("listen", "listen and admin are texts such as 127.0.0.1:7080")
    tls, log, registry = (raw.pop(name, {}) for name in ("tls", "log", "registry"))
    options = _converted(_plain(raw, "gateway"), GatewayOptions, "gateway")
    _check_options(options)
    found = FileConfig(
        listen=tuple(listen),
        admin=admin,
        options=options,
        tls=_converted(tls, Tls, "tls"),
        log=_converted(log, Log, "log"),
        registry=_converted(registry, Registry, "registry"),
        routes=tuple(_route(row, f"route {number}") for number, row in enumerate(rows, 1)),
    )
    RouteTable(found.routes)
    if found.log.format not in ("text", "json"):
        raise InvalidField("log.format", f"{found.log.format!r} is neither text nor json")
    if bool(found.tls.cert) != bool(found.tls.key):
        raise InvalidField("tls", "cert and key belong together")
    return found


def read_route(text: str) -> Route:
    """``/users=user``, ``api.example.org/users=user`` or ``api.example.org=user``. Raises ``InvalidField``."""
    place, sign, service = text.partition("=")
    if not sign or not service:
        raise InvalidField("route", f"{text!r} is not [HOST][/PATH]=SERVICE")
    host, slash, path = place.partition("/")
    return _route({"host": host, "path": f"/{path}" if slash else "/", "service": service}, f"route {text!r}")


def seconds(value: object, field: str) -> float:
    """``500ms``, ``10s``, ``5m``, ``1h``, or a number of seconds. Raises ``InvalidField``."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**9:
        return float(value)
    try:
        return duration_ms(value.strip() if isinstance(value, str) else str(value)) / 1000
    except ValueError as error:
        raise InvalidField(field, str(error)) from error


def _route(row: dict[str, Any], where: str) -> Route:
    raw = _plain(row, where)
    for field in ("host", "path", "service"):
        if field in raw and not isinstance(raw[field], str):
            raise InvalidField(f"{where}: {field}", "must be a text")
    if "rate" in raw:
        raw["rate"] = _per_second(raw["rate"], f"{where}: rate")
    raw["host"] = raw.get("host", "").lower().rstrip(".")
    if isinstance(raw.get("methods"), list):
        raw["methods"] = [str(one).upper() for one in raw["methods"]]
    raw.setdefault("name", f"{raw['host']}{raw.get('path', '/')}")
    route = _converted(raw, Route, where)
    for what, good, advice in _checks(route):
        if not good:
            raise InvalidField(f"{where}: {what}", advice)
    _check_service(route.service, f"{where}: service")
    check_source(route.rate_by, field=f"{where}: rate_by")
    if route.key:
        check_source(route.key, field=f"{where}: key")
    return route


def _checks(route: Route) -> list[tuple[str, bool, str]]:
    return [
        ("host", not route.host or _HOST.fullmatch(route.host) is not None, "a name, *.name, or nothing for all hosts"),
        ("path", _PATH.fullmatch(route.path) is not None, "begins with a slash and has no query"),
        ("replace_prefix", not route.replace_prefix or _PATH.fullmatch(route.replace_prefix) is not None, "a path"),
        ("headers", all(_NAME.fullmatch(one) and _latin(v) for one, v in route.headers.items()), "names and values"),
        ("methods", all(_NAME.fullmatch(one) for one in route.methods), "a list of methods"),
        ("balancer", route.balancer in BY_NAME, f"one of {', '.join(BY_NAME)}"),
        ("protocol", route.protocol in ("http/1.1", "h2"), "http/1.1 or h2"),
        ("retries", 0 <= route.retries <= 10, "0 to 10"),
        ("retry_statuses", all(500 <= one <= 599 for one in route.retry_statuses), "statuses from 500 to 599"),
        ("panic_threshold", 0 <= route.panic_threshold <= 1, "a share between 0 and 1"),
        ("timeout", all(_times(route)), "times must be above 0"),
        ("limits", all(_counts(route)), "max_connections, max_pending and max_requests must be above 0"),
        ("failures", route.failures >= 0 and route.service_failures >= 0, "0 is never"),
        ("tls_ca", route.tls or not (route.tls_ca or route.tls_name), "needs tls = true"),
    ]


def _times(route: Route) -> list[bool]:
    return [one > 0 for one in (route.timeout, route.connect_timeout, route.first_byte_timeout, route.idle_timeout)]


def _counts(route: Route) -> list[bool]:
    return [one > 0 for one in (route.max_connections, route.max_pending, route.max_requests, route.body_size_max)]


def _latin(value: str) -> bool:
    return all(32 <= ord(one) < 256 and ord(one) != 127 for one in value)


def _check_service(service: str, field: str) -> None:
    if "://" in service:
        parse_source(service)
        return
    parts = service.split("/")
    if len(parts) == 3:
        names.namespace(parts[0], field)
        names.namespace(parts[1], field)
    names.service(parts[2] if len(parts) == 3 else service, field)


def _check_options(options: GatewayOptions) -> None:
    try:
        options.trusts()
    except ValueError as error:
        raise InvalidField("trusted_proxies", f"{error}; use networks such as 127.0.0.0/8") from error
    if options.via and _NAME.fullmatch(options.via) is None:
        raise InvalidField("via", f"{options.via!r} is no word")
    for name in GatewayOptions.__struct_fields__:
        value = getattr(options, name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value <= 0:
            raise InvalidField(name, "must be above 0")


def _plain(row: dict[str, Any], where: str) -> dict[str, Any]:
    """Durations and sizes as numbers."""
    found = dict(row)
    for name in found.keys() & _TIMES:
        found[name] = seconds(found[name], f"{where}: {name}")
    for name in found.keys() & _SIZES:
        found[name] = _bytes(found[name], f"{where}: {name}")
    return found


def _bytes(value: object, field: str) -> int:
    match = _SIZE.fullmatch(str(value).replace(" ", ""))
    if match is None or isinstance(value, bool):
        raise InvalidField(field, f"{value!r} is no size; use a number of bytes or for example 64KiB")
    return int(match[1]) * _UNIT[match[2] or "B"]


def _per_second(value: object, field: str) -> float:
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidField(field, f"{value!r} is no rate; use for example 100/s or 30/m")
    return float(match[1]) / _UNIT_S[match[2]]


def _converted(value: Any, kind: type[_Struct], where: str) -> _Struct:
    known = set(kind.__struct_fields__)
    if not isinstance(value, dict):
        raise InvalidField(where, "must be a table")
    unknown = [name for name in value if name not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(known), 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
        raise InvalidField(f"{where}: {unknown[0]}", f"is not known; {hint}")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidField(where, str(error)) from error
