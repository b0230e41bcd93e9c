"""Consul's service definitions in JSON: ``{"service": {…}}`` and ``{"services": […]}``, with their checks.

Names may be written as Consul takes them: ``enable_tag_override``, ``EnableTagOverride``. What cannot be kept here is
refused in plain words rather than ignored, because a check that nobody makes is worse than none.
"""

from __future__ import annotations

import json
from typing import Any, Final

from townhall.agent.definitions import Definition
from townhall.agent.fields import Fields
from townhall.client.definitions import Service
from townhall.model import limits, names
from townhall.model.check import CheckDefinition, CheckKind
from townhall.model.errors import InvalidField

__all__ = ["read_consul"]

_SPELLINGS: Final = {
    name.replace("_", ""): name
    for name in (
        "tagged_addresses", "enable_tag_override", "socket_path", "script_args", "tls_skip_verify", "tls_server_name",
        "disable_redirects", "tcp_use_tls", "grpc_use_tls", "h2ping_use_tls", "docker_container_id", "alias_node",
        "alias_service", "os_service", "service_id", "check_id", "output_max_size", "success_before_passing",
        "failures_before_warning", "failures_before_critical", "deregister_critical_service_after",
    )
}  # fmt: skip
_SERVICE_REFUSED: Final = {
    "token": "is not used: the agent registers with a token of its own (TOWNHALL_TOKEN); remove it",
    "kind": "proxies and gateways of Consul's mesh are not registered here",
    "proxy": "proxies of Consul's mesh are not registered here",
    "connect": "Consul's mesh is not there; remove it",
    "socket_path": "a Unix socket cannot be called from elsewhere; give address and port",
    "partition": "there are no partitions; remove it",
    "ports": "several ports are not read from Consul's definitions; give port, or write the file as TOML with ports",
}
_CHECK_REFUSED: Final = {
    "ttl": "nobody could send the heartbeat: this agent has no check API; give http, tcp, grpc, udp or args instead, or "
    "have the program register itself",
    "script": "was removed from Consul; give the command as a list in args",
    "docker_container_id": "commands in containers are not run: whoever may talk to Docker's socket is root here",
    "alias_node": "checks that follow others are the registry's; register this one there",
    "alias_service": "checks that follow others are the registry's; register this one there",
    "h2ping": "is not made; give grpc, http or tcp",
    "os_service": "is not made; give http, tcp, grpc or args",
    "token": "is not used; remove it",
    "service_id": "a check here belongs to the service that it stands in; remove it",
    "shell": "is for commands in containers, which are not run",
}
_TARGETS: Final = ("args", "script_args", "http", "tcp", "udp", "grpc")


def read_consul(text: str, *, timing: CheckDefinition, scripts: bool) -> list[Definition]:
    """The services of a file. Raises InvalidField, whose message names the field."""
    try:
        content = Fields(_spelled(json.loads(text)), "")
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidField("file", f"is not JSON: {error}") from error
    one = content.table("service")
    tables = ([one] if one is not None else []) + content.tables("services")
    content.refuse(dict.fromkeys(("check", "checks"), "put it into the service that it is about"))
    try:
        content.done()
    except InvalidField as error:
        name = error.fields["field"]
        raise InvalidField(str(name), "only service and services are read here; the rest is Consul's own") from error
    if not tables:
        raise InvalidField("file", 'names no service: {"service": {…}} or {"services": […]}')
    return [_definition(fields, timing, scripts=scripts) for fields in tables]


def _spelled(value: Any) -> Any:
    """With all names of fields in their usual spelling. What stands in meta is the user's own."""
    if isinstance(value, list):
        return [_spelled(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, below in value.items():
        plain = name.lower().replace("_", "")
        found[_SPELLINGS.get(plain, plain)] = (
            below if plain in ("meta", "header", "taggedaddresses") else _spelled(below)
        )
    return found


def _definition(fields: Fields, timing: CheckDefinition, *, scripts: bool) -> Definition:
    fields.refuse(_SERVICE_REFUSED)
    port = names.port(fields.whole("port"), fields.path("port"), zero=True)
    name = names.service(fields.text("name"), fields.path("name"))
    namespace = fields.text("namespace") or "default"
    metadata = fields.pairs("meta") | _tagged_addresses(fields)
    # Whether others may change the tags in the catalogue: they may, until this definition changes.
    fields.flag("enable_tag_override")
    locality = fields.table("locality")
    service = Service(
        name=name,
        port=port,
        address=names.address(fields.text("address"), fields.path("address")) if fields.text("address") else None,
        id=names.instance_id(fields.text("id"), fields.path("id")) if fields.text("id") else "",
        namespace=names.namespace(namespace, fields.path("namespace")),
        tags=names.tags(fields.texts("tags"), fields.path("tags")),
        metadata=names.metadata(metadata, fields.path("meta")),
        weight=names.weight(_weight(fields.table("weights")), fields.path("weights")),
        region=names.label(locality.text("region"), "region", empty=True) if locality is not None else "",
        zone=names.label(locality.text("zone"), "zone", empty=True) if locality is not None else "",
    )
    if locality is not None:
        locality.done()
    one = fields.table("check")
    tables = ([one] if one is not None else []) + fields.tables("checks")
    fields.done()
    if len(tables) > limits.CHECKS_PER_INSTANCE_MAX:
        raise InvalidField(fields.path("checks"), f"more than {limits.CHECKS_PER_INSTANCE_MAX}")
    checks = {}
    for number, table in enumerate(tables, 1):
        label, check = _check(table, timing, scripts=scripts)
        checks[label if label and label not in checks else f"{label or name}:{number}"] = check
    return Definition(service=service, checks=checks)


def _tagged_addresses(fields: Fields) -> dict[str, str]:
    """``lan`` and the like, as metadata: an instance here has one address."""
    table = fields.raw("tagged_addresses") or {}
    found = {}
    for name, value in table.items() if isinstance(table, dict) else ():
        one = Fields(_spelled(value), fields.path(f"tagged_addresses.{name}"))
        address, port = one.text("address"), one.whole("port")
        one.done()
        found[f"address.{name}"] = f"{address}:{port}" if port else address
    return found


def _weight(weights: Fields | None) -> float:
    """That while it passes: an instance that warns keeps its weight here."""
    if weights is None:
        return 1.0
    passing = weights.number("passing", 1)
    weights.number("warning", 1)
    weights.done()
    return passing


def _check(fields: Fields, timing: CheckDefinition, *, scripts: bool) -> tuple[str, CheckDefinition]:
    """The check's name, and how it is made."""
    fields.refuse(_CHECK_REFUSED)
    given = [name for name in _TARGETS if not name.endswith("args") and fields.text(name)]
    given += [name for name in ("args", "script_args") if fields.texts(name)]
    if len(given) != 1:
        what = f"has {' and '.join(given)}" if given else "says nothing of how it is made"
        raise InvalidField(fields.where, what, advice="give one of http, tcp, udp, grpc and args")
    kind, arguments = given[0], fields.texts(given[0]) if given[0] in ("args", "script_args") else ()
    if arguments and not scripts:
        raise InvalidField(fields.path(kind), "would run a command", advice="allow it with --enable-scripts")
    interval_ms = fields.duration("interval")
    if interval_ms < limits.AGENT_CHECK_INTERVAL_MIN_MS:
        raise InvalidField(fields.path("interval"), f"is needed, at least {limits.AGENT_CHECK_INTERVAL_MIN_MS}ms")
    timeout_ms = fields.duration("timeout", min(interval_ms, limits.CHECK_TIMEOUT_DEFAULT_MS))
    check = CheckDefinition(
        kind=CheckKind.SCRIPT if arguments else CheckKind(kind),
        target="" if arguments else fields.text(kind),
        arguments=arguments,
        interval_ms=interval_ms,
        timeout_ms=min(timeout_ms, limits.CHECK_TIMEOUT_MAX_MS),
        method=fields.text("method"),
        headers=_headers(fields),
        body=fields.text("body"),
        tls=fields.flag("tcp_use_tls") or fields.flag("grpc_use_tls"),
        tls_skip_verify=fields.flag("tls_skip_verify"),
        tls_server_name=fields.text("tls_server_name"),
        follow_redirects=not fields.flag("disable_redirects"),
        success_before_passing=_threshold(fields, "success_before_passing"),
        failures_before_warning=_threshold(fields, "failures_before_warning"),
        failures_before_critical=_threshold(fields, "failures_before_critical"),
        deregister_after_ms=fields.duration("deregister_critical_service_after"),
    )
    # What it is before the first look is not needed: nothing is registered before that.
    for ignored in ("notes", "status", "id", "check_id", "name"):
        fields.text(ignored)
    fields.whole("output_max_size")
    fields.flag("h2ping_use_tls")
    fields.done()
    return fields.text("id") or fields.text("check_id") or fields.text("name"), check


def _threshold(fields: Fields, name: str) -> int:
    value = fields.whole(name)
    if value > limits.CHECK_THRESHOLD_MAX:
        raise InvalidField(fields.path(name), f"more than {limits.CHECK_THRESHOLD_MAX}")
    return value


def _headers(fields: Fields) -> dict[str, tuple[str, ...]]:
    raw = fields.raw("header") or {}
    if not isinstance(raw, dict) or not all(
        isinstance(values, list) and all(isinstance(value, str) for value in values) for values in raw.values()
    ):
        raise InvalidField(fields.path("header"), "must be a table of lists of texts")
    return {name: tuple(values) for name, values in raw.items()}
