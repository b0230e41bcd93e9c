"""The JSON objects of Consul's catalogue, agent and health answers, made from our values."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any, Final

import msgspec

from townhall.face.consul.durations import go_duration
from townhall.face.consul.site import Site
from townhall.model.check import Check, CheckDefinition, CheckKind, Node
from townhall.model.instance import Instance

__all__ = [
    "EXTRA_ADDRESS", "EXTRA_CONNECT", "EXTRA_KIND", "EXTRA_OVERRIDE", "EXTRA_PROXY", "EXTRA_SOCKET", "EXTRA_TAGGED",
    "EXTRA_WARNING", "NODE_MAINTENANCE", "SERVICE_MAINTENANCE", "agent_service", "catalog_service", "check_object", "connects_to",
    "health_service", "node_object", "service_address", "service_id", "warning_weight",
]  # fmt: skip

EXTRA_ADDRESS: Final = "consul.address"
"""Present, and empty, when the service was registered without an address of its own."""
EXTRA_WARNING: Final = "consul.warning_weight"
EXTRA_KIND: Final = "consul.kind"
EXTRA_TAGGED: Final = "consul.tagged_addresses"
EXTRA_PROXY: Final = "consul.proxy"
EXTRA_CONNECT: Final = "consul.connect"
EXTRA_OVERRIDE: Final = "consul.enable_tag_override"
EXTRA_SOCKET: Final = "consul.socket_path"

SERVICE_MAINTENANCE: Final = "_service_maintenance:"
NODE_MAINTENANCE: Final = "_node_maintenance"
_PLAIN_PROXY: Final = {"Mode": "", "MeshGateway": {}, "Expose": {}}


def service_id(instance: Instance, site: Site) -> str:
    """The id that Consul's clients know an instance by: unique on its node, where ours is unique in its service."""
    node = instance.node
    return instance.id if node in ("", site.node) else instance.id.removeprefix(node + "/")


def service_address(instance: Instance) -> str:
    """The address it was registered with; empty means the node's."""
    return "" if EXTRA_ADDRESS in instance.extra else instance.address


def warning_weight(instance: Instance) -> int:
    """The weight while a check warns."""
    return int(instance.extra.get(EXTRA_WARNING, "1"))


def _loaded(instance: Instance, name: str) -> Any:
    text = instance.extra.get(name)
    return msgspec.json.decode(text) if text else None


def connects_to(instance: Instance, service: str) -> bool:
    """Whether who connects to a service may connect to this: a proxy before it, or an instance that needs none."""
    wanted = service.lower()
    if instance.extra.get(EXTRA_KIND) == "connect-proxy":
        proxy: dict[str, str] = _loaded(instance, EXTRA_PROXY)
        return proxy["DestinationServiceName"].lower() == wanted
    connect: dict[str, object] = _loaded(instance, EXTRA_CONNECT) or {}
    return connect.get("Native") is True and instance.key.name.lower() == wanted


@lru_cache(4_096)
def _family(address: str) -> str:
    try:
        return "ipv6" if ipaddress.ip_address(address).version == 6 else "ipv4"
    except ValueError:
        return ""


def _tagged(instance: Instance, site: Site) -> dict[str, Any]:
    tagged: dict[str, Any] = _loaded(instance, EXTRA_TAGGED) or {}
    address = service_address(instance)
    family = _family(address) if address and instance.node in ("", site.node) else ""
    if family:
        own = {"Address": address, "Port": instance.port}
        for scope in ("lan_", "wan_"):
            tagged.setdefault(scope + family, own)
    return tagged


def _weights(instance: Instance) -> dict[str, int]:
    return {"Passing": int(instance.weight), "Warning": warning_weight(instance)}


def node_object(node: Node, site: Site) -> dict[str, Any]:
    """A node as lists of nodes and health answers show it."""
    return {
        "ID": node.id, "Node": node.name, "Address": node.address, "Datacenter": site.datacenter,
        "TaggedAddresses": node.tagged_addresses or None, "Meta": node.meta or None,
        "CreateIndex": node.created + 1, "ModifyIndex": node.revision + 1,
    }  # fmt: skip


def _locality(instance: Instance) -> dict[str, str] | None:
    return {"Region": instance.region, "Zone": instance.zone} if instance.region or instance.zone else None


def _common(instance: Instance, site: Site, shown: dict[str, Any]) -> dict[str, Any]:
    kind = instance.extra.get(EXTRA_KIND)
    socket = instance.extra.get(EXTRA_SOCKET)
    tagged = _tagged(instance, site)
    if kind:
        shown["Kind"] = kind
    if socket:
        shown["SocketPath"] = socket
    if tagged:
        shown["TaggedAddresses"] = tagged
    locality = _locality(instance)
    if locality:
        shown["Locality"] = locality
    return shown


def agent_service(instance: Instance, site: Site) -> dict[str, Any]:
    """A service as its agent shows it."""
    shown = {
        "ID": service_id(instance, site), "Service": instance.key.name, "Tags": instance.tags, "Meta": instance.metadata,
        "Port": instance.port, "Address": service_address(instance), "Weights": _weights(instance),
        "EnableTagOverride": EXTRA_OVERRIDE in instance.extra, "Datacenter": site.datacenter,
    }  # fmt: skip
    for name, extra in (("Proxy", EXTRA_PROXY), ("Connect", EXTRA_CONNECT)):
        value = _loaded(instance, extra)
        if value:
            shown[name] = value
    return _common(instance, site, shown)


def health_service(instance: Instance, site: Site) -> dict[str, Any]:
    """A service as health and node answers show it."""
    bare = not instance.metadata and instance.protocol == "consul"
    shown = {
        "ID": service_id(instance, site), "Service": instance.key.name, "Tags": instance.tags,
        "Address": service_address(instance), "Meta": None if bare else instance.metadata, "Port": instance.port,
        "Weights": _weights(instance), "EnableTagOverride": EXTRA_OVERRIDE in instance.extra,
        "Proxy": _loaded(instance, EXTRA_PROXY) or _PLAIN_PROXY, "Connect": _loaded(instance, EXTRA_CONNECT) or {},
        "PeerName": "", "CreateIndex": instance.incarnation + 1, "ModifyIndex": instance.revision + 1,
    }  # fmt: skip
    return _common(instance, site, shown)


def catalog_service(node: Node, instance: Instance, site: Site) -> dict[str, Any]:
    """One row of ``/v1/catalog/service``."""
    shown = {
        "ID": node.id, "Node": node.name, "Address": node.address, "Datacenter": site.datacenter,
        "TaggedAddresses": node.tagged_addresses or None, "NodeMeta": node.meta or None,
        "ServiceKind": instance.extra.get(EXTRA_KIND, ""), "ServiceID": service_id(instance, site),
        "ServiceName": instance.key.name, "ServiceTags": instance.tags, "ServiceAddress": service_address(instance),
        "ServiceWeights": _weights(instance), "ServiceMeta": instance.metadata, "ServicePort": instance.port,
        "ServiceSocketPath": instance.extra.get(EXTRA_SOCKET, ""),
        "ServiceEnableTagOverride": EXTRA_OVERRIDE in instance.extra,
        "ServiceProxy": _loaded(instance, EXTRA_PROXY) or _PLAIN_PROXY,
        "ServiceConnect": _loaded(instance, EXTRA_CONNECT) or {}, "ServiceLocality": _locality(instance),
        "CreateIndex": instance.incarnation + 1, "ModifyIndex": instance.revision + 1,
    }  # fmt: skip
    tagged = _tagged(instance, site)
    if tagged:
        shown["ServiceTaggedAddresses"] = tagged
    return shown


def check_object(check: Check, instance: Instance | None, site: Site, *, local: bool = False) -> dict[str, Any]:
    """A check; ``instance`` is the one it is about. ``local``: as the agent shows it, which knows no indexes."""
    definition = check.definition
    maintenance = check.id == NODE_MAINTENANCE or check.id.startswith(SERVICE_MAINTENANCE)
    kind = "maintenance" if maintenance else "" if definition.kind is CheckKind.NONE else definition.kind.value
    interval_ms, timeout_ms = definition.interval_ms, definition.timeout_ms
    return {
        "Node": check.node, "CheckID": check.id, "Name": check.name, "Status": check.status.value, "Notes": check.notes,
        "Output": check.output, "ServiceID": "" if instance is None else service_id(instance, site),
        "ServiceName": check.service_name, "ServiceTags": () if instance is None else instance.tags, "Type": kind,
        "Interval": go_duration(interval_ms) if interval_ms else "",
        "Timeout": go_duration(timeout_ms) if timeout_ms else "", "ExposedPort": 0,
        "Definition": {} if check.node == site.node else _definition(definition),
        "CreateIndex": 0 if local else check.created + 1, "ModifyIndex": 0 if local else check.revision + 1,
    }  # fmt: skip


def _definition(definition: CheckDefinition) -> dict[str, Any]:
    """What probing agents of other nodes read back out of the catalogue."""
    shown: dict[str, Any] = {}
    if definition.kind is CheckKind.HTTP:
        shown["HTTP"] = definition.target
    elif definition.kind is CheckKind.TCP:
        shown["TCP"] = definition.target
    elif definition.kind is CheckKind.UDP:
        shown["UDP"] = definition.target
    elif definition.kind is CheckKind.GRPC:
        shown["GRPC"] = definition.target
    if definition.method:
        shown["Method"] = definition.method
    if definition.headers:
        shown["Header"] = definition.headers
    if definition.body:
        shown["Body"] = definition.body
    if definition.tls_skip_verify:
        shown["TLSSkipVerify"] = True
    if definition.tls_server_name:
        shown["TLSServerName"] = definition.tls_server_name
    for name, value_ms in (
        ("Interval", definition.interval_ms), ("Timeout", definition.timeout_ms),
        ("DeregisterCriticalServiceAfter", definition.deregister_after_ms),
    ):  # fmt: skip
        if value_ms:
            shown[name] = go_duration(value_ms)
    return shown
