"""Services as agents and the catalogue are told of them, as our commands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from townhall.core.commands import PutCheck, Register
from townhall.face.consul.blocking import encode
from townhall.face.consul.bodies import Body, names, plain
from townhall.face.consul.errors import bad
from townhall.face.consul.picture import instance_name, service_key
from townhall.face.consul.shapes import (
    EXTRA_ADDRESS,
    EXTRA_CONNECT,
    EXTRA_KIND,
    EXTRA_OVERRIDE,
    EXTRA_PROXY,
    EXTRA_SOCKET,
    EXTRA_TAGGED,
    EXTRA_WARNING,
)
from townhall.face.consul.site import Site
from townhall.model import limits
from townhall.model import names as rules
from townhall.model.instance import Instance, ServiceKey

__all__ = ["AGENT_SERVICE", "CATALOG_SERVICE", "Placed", "again_at", "check_meta", "register_command", "sidecar"]

AGENT_SERVICE = names(
    "Kind", "ID", "Name", "Tags", "Address", "SocketPath", "Port", "Ports", "Meta", "TaggedAddresses", "EnableTagOverride",
    "Weights", "Proxy", "Connect", "Check", "Checks", "Token", "Locality", "Namespace", "Partition",
)  # fmt: skip
CATALOG_SERVICE = names(
    "Kind", "ID", "Service", "Tags", "Address", "SocketPath", "Port", "Ports", "Meta", "TaggedAddresses",
    "EnableTagOverride", "Weights", "Proxy", "Connect", "Locality", "Namespace", "Partition", "PeerName",
    "CreateIndex", "ModifyIndex", "Datacenter", "ContentHash",
)  # fmt: skip
_LOCALITY = names("Region", "Zone")
_WEIGHTS = names("Passing", "Warning")
_TAGGED_ADDRESS = names("Address", "Port")
_EXTRAS = names("Kind", "SocketPath", "EnableTagOverride", "TaggedAddresses", "Proxy", "Connect")
_META_COUNT_MAX = 64
_META_KEY = re.compile(r"[A-Za-z0-9_-]+")
_META_KEY_SIZE_MAX = 128
_META_VALUE_SIZE_MAX = 512
_UNSPECIFIED = frozenset({"0.0.0.0", "::", "[::]"})  # noqa: S104 - refused, not bound
_SIDECAR_PORTS = range(21_000, 21_256)


class Placed:
    """Where a service goes: its node, and what that node's address is."""

    __slots__ = ("address", "lenient", "node", "origin", "site")

    def __init__(self, site: Site, *, node: str, address: str, origin: str, lenient: bool = False) -> None:
        """``lenient`` as the catalogue is, where weights out of bounds count as none: Go's client always sends some."""
        self.site = site
        self.lenient = lenient
        self.node = node
        self.address = address
        self.origin = origin


def check_meta(meta: Mapping[str, str], what: str) -> dict[str, str]:
    """Metadata within Consul's bounds. Raises ``Misuse`` in its words."""
    if len(meta) > _META_COUNT_MAX:
        raise bad(f"{what}: Node metadata cannot contain more than 64 key/value pairs")
    for key, value in meta.items():
        problem = _wrong_with(key)
        if not problem and len(value) > _META_VALUE_SIZE_MAX:
            problem = "Value is too long (limit: 512 characters)"
        if problem:
            raise bad(f"{what}: Couldn't load metadata pair ('{key}', '{value}'): {problem}")
    return dict(meta)


@lru_cache(4_096)
def _wrong_with(key: str) -> str:
    """What is wrong with a key of metadata; '' for a good one. Everybody uses the same few."""
    if not key:
        return "Key cannot be blank"
    if not _META_KEY.fullmatch(key):
        return "Key contains invalid characters"
    if len(key) > _META_KEY_SIZE_MAX:
        return "Key is too long (limit: 128 characters)"
    return "Key prefix 'consul-' is reserved for internal use" if key.startswith("consul-") else ""


def register_command(
    body: Body, name: str, service: str, placed: Placed, checks: tuple[PutCheck, ...] = ()
) -> Register:
    """The registration of a service with an id on a node. Raises ``Misuse``."""
    address = body.text("Address")
    if address in _UNSPECIFIED:
        raise bad("Invalid service address")
    passing, extra = _weights(body, lenient=placed.lenient)
    if body.any_of(_EXTRAS):
        _extras(body, extra)
    if not address:
        extra[EXTRA_ADDRESS] = ""
    if sum(map(len, extra.values())) > limits.METADATA_SIZE_MAX:
        raise bad("the service's proxy and addresses are too large", 413)
    locality = body.child("Locality", _LOCALITY)
    return Register(
        key=service_key(rules.service(name)),
        id=rules.instance_id(instance_name(placed.site, placed.node, service)),
        address=rules.address(address or placed.address),
        port=rules.port(body.integer("Port"), zero=True),
        tags=rules.tags([tag for tag in body.texts("Tags") if tag]),
        metadata=check_meta(body.mapping("Meta"), "Invalid Service Meta"),
        region="" if locality is None else rules.label(locality.text("Region"), "region", empty=True),
        zone="" if locality is None else rules.label(locality.text("Zone"), "zone", empty=True),
        weight=float(passing),
        persistent=True,
        protocol="consul",
        origin=placed.origin,
        node=placed.node,
        extra=extra,
        checks=checks,
    )


def _weights(body: Body, *, lenient: bool) -> tuple[int, dict[str, str]]:
    weights = body.child("Weights", _WEIGHTS)
    if weights is None:
        return 1, {}
    passing, warning = weights.integer("Passing"), weights.integer("Warning")
    if lenient and not (1 <= passing <= limits.PORT_MAX and 0 <= warning <= limits.PORT_MAX):
        return 1, {}
    if passing < 1:
        raise bad("Invalid Weights: Passing must be greater than 0")
    if passing > limits.PORT_MAX or not 0 <= warning <= limits.PORT_MAX:
        raise bad("Invalid Weights: DNS Weight must be between 0 and 65535")
    return passing, {} if warning == 1 else {EXTRA_WARNING: str(warning)}


def _respelled(value: Any, name: str) -> Any:
    """However a body spells the name of this field, reads look for it under ours."""
    if not isinstance(value, dict):
        return value
    return {name if plain(key) == plain(name) else key: content for key, content in value.items()}


def _extras(body: Body, extra: dict[str, str]) -> None:
    kind, proxy = body.text("Kind"), _respelled(body.raw("Proxy"), "DestinationServiceName")
    if kind == "connect-proxy" and not (isinstance(proxy, dict) and Body(proxy, None).text("DestinationServiceName")):
        message = "Proxy.DestinationServiceName must be non-empty for Connect proxy services"
        raise bad(f"Validation failed: 1 error occurred:\n\t* {message}\n\n")
    for name, text in ((EXTRA_KIND, kind), (EXTRA_SOCKET, body.text("SocketPath"))):
        if text:
            extra[name] = rules.text(text, name, size_max=limits.METADATA_VALUE_SIZE_MAX)
    if body.flag("EnableTagOverride"):
        extra[EXTRA_OVERRIDE] = "true"
    tagged = _tagged_addresses(body)
    connect = _respelled(body.raw("Connect"), "Native")
    if isinstance(connect, dict):
        connect = {key: value for key, value in connect.items() if plain(key) != "sidecarservice"}
    for name, value in ((EXTRA_TAGGED, tagged), (EXTRA_PROXY, proxy), (EXTRA_CONNECT, connect)):
        if value:
            if not isinstance(value, dict):
                raise body.wrong(name.removeprefix("consul."), value, "object")
            extra[name] = encode(value).decode()


def _tagged_addresses(body: Body) -> dict[str, Any]:
    found: dict[str, Any] = {}
    value = body.raw("TaggedAddresses")
    if not isinstance(value, dict):
        return found
    for name, tagged in value.items():
        if isinstance(tagged, str):
            found[name] = {"Address": tagged, "Port": body.integer("Port")}
            continue
        inner = Body(tagged, _TAGGED_ADDRESS)
        found[name] = {"Address": inner.text("Address"), "Port": inner.integer("Port")}
    return found


def sidecar(body: Body, command: Register, service: str, placed: Placed, taken: frozenset[int]) -> Register | None:
    """The proxy that ``Connect.SidecarService`` asks for beside a service; None when it does not."""
    connect = body.child("Connect", None)
    wanted = connect.child("SidecarService", AGENT_SERVICE) if connect is not None else None
    if wanted is None:
        return None
    name, proxy = wanted.text("Name") or f"{command.key.name}-sidecar-proxy", wanted.raw("Proxy")
    id_ = f"{service}-sidecar-proxy"
    filled = {
        "DestinationServiceName": command.key.name, "DestinationServiceID": service,
        "LocalServiceAddress": "127.0.0.1", "LocalServicePort": command.port,
        **(proxy if isinstance(proxy, dict) else {}),
    }  # fmt: skip
    port = wanted.integer("Port") or next((each for each in _SIDECAR_PORTS if each not in taken), 0)
    if not port:
        raise bad("none left in the range of ports for sidecar proxies; give one")
    shown = {"Kind": "connect-proxy", "Port": port, "Proxy": filled, "Tags": wanted.texts("Tags") or list(command.tags)}
    shown["Meta"] = wanted.mapping("Meta") or dict(command.metadata)
    shown["Address"] = wanted.text("Address") or body.text("Address")
    return register_command(Body(shown, None), name, id_, placed)


def again_at(instance: Instance, address: str) -> Register:
    """The registration of an instance once more, at its node's new address."""
    return Register(
        key=ServiceKey(*instance.key), id=instance.id, address=address, port=instance.port, ports=instance.ports,
        tags=instance.tags, metadata=instance.metadata, weight=instance.weight, region=instance.region,
        zone=instance.zone, cluster=instance.cluster, enabled=instance.enabled, ready=instance.ready, persistent=True,
        claim=instance.claim, protocol=instance.protocol, origin=instance.origin, node=instance.node,
        extra=instance.extra,
    )  # fmt: skip
