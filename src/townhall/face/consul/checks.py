"""Checks as agents and the catalogue are told of them, as our commands."""

from __future__ import annotations

from collections.abc import Sequence

from townhall.core.commands import PutCheck
from townhall.face.consul.bodies import Body, names
from townhall.face.consul.errors import bad
from townhall.face.consul.site import Site
from townhall.model import limits
from townhall.model.check import NO_DEFINITION, CheckDefinition, CheckKind, CheckStatus
from townhall.model.instance import Instance

__all__ = [
    "AGENT_CHECK",
    "CATALOG_CHECK",
    "SERVICE_CHECK",
    "agent_definition",
    "catalog_check",
    "service_checks",
    "status_of",
]

SERVICE_CHECK = names(
    "CheckID", "Name", "Status", "Notes", "Script", "ScriptArgs", "Args", "HTTP", "H2PING", "H2PingUseTLS", "Header",
    "Method", "Body", "DisableRedirects", "TCP", "TCPUseTLS", "UDP", "Interval", "AliasNode", "AliasService",
    "DockerContainerID", "Shell", "GRPC", "GRPCUseTLS", "OSService", "TLSServerName", "TLSSkipVerify", "Timeout", "TTL",
    "SuccessBeforePassing", "FailuresBeforeWarning", "FailuresBeforeCritical", "ProxyHTTP", "ProxyGRPC",
    "DeregisterCriticalServiceAfter", "OutputMaxSize",
)  # fmt: skip
"""Fields of a check within a service."""
AGENT_CHECK = SERVICE_CHECK | names("ID", "ServiceID", "Token", "Namespace", "Partition")
CATALOG_CHECK = names(
    "Node", "CheckID", "Name", "Status", "Notes", "Output", "ServiceID", "ServiceName", "ServiceTags", "Type", "Interval",
    "Timeout", "ExposedPort", "Definition", "CreateIndex", "ModifyIndex", "PeerName", "Namespace", "Partition",
)  # fmt: skip
_NO_SCRIPTS = (
    "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true"
)


def status_of(text: str, refusal: str) -> CheckStatus | None:
    """A status by its name; None for "". Raises ``Misuse`` with ``refusal``."""
    if not text:
        return None
    try:
        return CheckStatus(text)
    except ValueError:
        raise bad(refusal) from None


def agent_definition(body: Body, site: Site) -> CheckDefinition:
    """How a check is run. Raises ``Misuse`` with what Consul's own validation says."""
    kind, target = _kind(body, site)
    interval_ms, ttl_ms = body.duration_ms("Interval"), body.duration_ms("TTL")
    if interval_ms > 0 and ttl_ms > 0:
        raise bad("Invalid check: Interval and TTL cannot both be specified")
    if kind is CheckKind.ALIAS:
        if ttl_ms > 0:
            raise bad("Invalid check: TTL must be not be set for Alias checks")
        interval_ms = 0
    elif kind is CheckKind.TTL:
        if ttl_ms <= 0:
            raise bad("Invalid check: TTL must be > 0 for TTL checks")
    elif interval_ms <= 0:
        raise bad("Invalid check: Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks")
    else:
        interval_ms = max(interval_ms, limits.CHECK_INTERVAL_MIN_MS)
    critical, warning = body.integer("FailuresBeforeCritical"), body.integer("FailuresBeforeWarning")
    if warning > critical:
        raise bad("Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical")
    grpc_target, _, grpc_service = target.partition("/") if kind is CheckKind.GRPC else (target, "", "")
    return CheckDefinition(
        kind=kind,
        interval_ms=interval_ms,
        timeout_ms=max(body.duration_ms("Timeout"), 0),
        ttl_ms=ttl_ms if kind is CheckKind.TTL else 0,
        target=grpc_target,
        method=body.text("Method"),
        headers=_headers(body),
        body=body.text("Body"),
        tls=body.flag("TCPUseTLS") or body.flag("GRPCUseTLS"),
        tls_skip_verify=body.flag("TLSSkipVerify"),
        tls_server_name=body.text("TLSServerName"),
        grpc_service=grpc_service,
        alias_node=body.text("AliasNode") or (site.node if kind is CheckKind.ALIAS else ""),
        alias_service=_alias_service(body, site),
        success_before_passing=body.integer("SuccessBeforePassing"),
        failures_before_warning=warning,
        failures_before_critical=critical,
        deregister_after_ms=max(body.duration_ms("DeregisterCriticalServiceAfter"), 0),
        follow_redirects=not body.flag("DisableRedirects"),
        arguments=_arguments(body),
        shell=body.text("Shell"),
    )


def _arguments(body: Body) -> tuple[str, ...]:
    script = body.text("Script")
    return tuple(body.texts("Args") or body.texts("ScriptArgs") or (("/bin/sh", "-c", script) if script else ()))


def _alias_service(body: Body, site: Site) -> str:
    service, node = body.text("AliasService"), body.text("AliasNode")
    return f"{node}/{service}" if service and node and node != site.node else service


def _kind(body: Body, site: Site) -> tuple[CheckKind, str]:
    """The kind of a check and what it looks at."""
    for name, kind in (
        ("HTTP", CheckKind.HTTP),
        ("TCP", CheckKind.TCP),
        ("UDP", CheckKind.UDP),
        ("GRPC", CheckKind.GRPC),
    ):
        target = body.text(name)
        if target:
            return kind, target
    container = body.text("DockerContainerID")
    if container or body.texts("Args") or body.texts("ScriptArgs") or body.text("Script"):
        if not site.script_checks:
            raise bad(_NO_SCRIPTS)
        return (CheckKind.DOCKER, container) if container else (CheckKind.SCRIPT, "")
    for name in ("H2PING", "OSService"):
        if body.text(name):
            raise bad(f"Invalid check: {name} checks are not run by this registry")
    if body.text("AliasNode") or body.text("AliasService"):
        return CheckKind.ALIAS, ""
    return CheckKind.TTL, ""


def _headers(body: Body) -> dict[str, tuple[str, ...]]:
    value = body.raw("Header")
    if not isinstance(value, dict):
        return {}
    headers = {}
    for name, given in value.items():
        values = [given] if isinstance(given, str) else given
        if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise body.wrong("Header", values, "list of strings")
        headers[name] = tuple(values)
    return headers


def service_checks(body: Body, site: Site, *, service: str, name: str) -> tuple[PutCheck, ...]:
    """The checks that a service brings along (``Check`` and ``Checks``), named as Consul names them."""
    found = list(body.children("Checks", SERVICE_CHECK))
    single = body.raw("Check")
    if single:
        found.insert(0, Body(single, SERVICE_CHECK))
    wanted = []
    for number, check in enumerate(found, 1):
        status = status_of(check.text("Status"), "Status for checks must 'passing', 'warning', 'critical'")
        numbered = f"service:{service}:{number}" if len(found) > 1 else f"service:{service}"
        wanted.append(
            PutCheck(
                node=site.node, id=check.text("CheckID") or numbered,
                name=check.text("Name") or f"Service '{name}' check", status=status, notes=check.text("Notes"),
                definition=agent_definition(check, site),
            )
        )  # fmt: skip
    return tuple(wanted)


def catalog_check(body: Body, node: str, instance: Instance | None, own: tuple[object, str] | None) -> PutCheck:
    """A check of a catalogue registration; ``own`` is (key, id) of the instance that comes with it."""
    name, check = body.text("Name"), body.text("CheckID") or body.text("Name")
    if not check:
        raise bad("Must provide check ID or name")
    key, id_ = (instance.key, instance.id) if instance is not None else own or (None, "")
    return PutCheck(
        node=body.text("Node") or node, id=check, name=name,
        status=status_of(body.text("Status") or "critical", f"Invalid check status: '{body.text('Status')[:64]}'"),
        output=body.text("Output"), notes=body.text("Notes"), key=key, instance=id_,  # type: ignore[arg-type]
        definition=_catalog_definition(body),
    )  # fmt: skip


def _catalog_definition(body: Body) -> CheckDefinition:
    """External checks with a target and an interval are run by us; Consul leaves them to a separate program."""
    definition = body.child("Definition", None)
    if definition is None:
        return NO_DEFINITION
    interval_ms = definition.duration_ms("Interval") or definition.duration_ms("IntervalDuration")
    kinds: Sequence[tuple[str, CheckKind]] = (("HTTP", CheckKind.HTTP), ("TCP", CheckKind.TCP), ("UDP", CheckKind.UDP))
    found = next(((kind, definition.text(name)) for name, kind in kinds if definition.text(name)), None)
    if found is None or interval_ms <= 0:
        return NO_DEFINITION
    return CheckDefinition(
        kind=found[0],
        target=found[1],
        interval_ms=max(interval_ms, limits.CHECK_INTERVAL_MIN_MS),
        timeout_ms=definition.duration_ms("Timeout") or definition.duration_ms("TimeoutDuration"),
        method=definition.text("Method"),
        headers=_headers(definition),
        body=definition.text("Body"),
        tls_skip_verify=definition.flag("TLSSkipVerify"),
        tls_server_name=definition.text("TLSServerName"),
        deregister_after_ms=definition.duration_ms("DeregisterCriticalServiceAfter"),
    )
