"""Rules that Consul writes by itself: for identities of services and nodes, and its templated policies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from townhall.face.consul.errors import bad
from townhall.face.consul.ids import uuid_of

__all__ = ["TEMPLATES", "Template", "node_rules", "service_rules", "synthetic", "template_rules"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?")
_NAME_SIZE_MAX = 256
_READ_ALL = 'service_prefix "" {\n\tpolicy = "read"\n}\nnode_prefix "" {\n\tpolicy = "read"\n}\n'


class Template(NamedTuple):
    """One built-in template; ``%s`` in its text stands for the name it is about."""

    description: str
    text: str
    named: str = ""
    """What the name is of; "" when the template needs none."""

    @property
    def schema(self) -> str:
        """JSON schema of the variables."""
        if not self.named:
            return ""
        name = {"type": "string", "$ref": "#/definitions/min-length-one"}
        schema = {
            "type": "object", "properties": {"name": name}, "required": ["name"],
            "definitions": {"min-length-one": {"type": "string", "minLength": 1}},
        }  # fmt: skip
        return msgspec.json.format(msgspec.json.encode(schema), indent=1).decode()


_SERVICE = 'service "%s" {\n\tpolicy = "write"\n}\nservice "%s-sidecar-proxy" {\n\tpolicy = "write"\n}\n' + _READ_ALL
_NODE = 'node "%s" {\n\tpolicy = "write"\n}\nservice_prefix "" {\n\tpolicy = "read"\n}\n'
_AGENT = 'agent_prefix "" {\n\tpolicy = "read"\n}\nnode_prefix "" {\n\tpolicy = "read"\n}\n'
_WRITE_SERVICES = 'service_prefix "" {\n\tpolicy = "write"\n}\n'

TEMPLATES: Mapping[str, Template] = {
    "builtin/service": Template(
        "Allows to register one service with its sidecar, and to discover all services.", _SERVICE, "service"
    ),
    "builtin/node": Template("Allows to register one node, and to discover all services.", _NODE, "node"),
    "builtin/dns": Template(
        "Allows DNS to find services, nodes and prepared queries.", _READ_ALL + 'query_prefix "" {\n\tpolicy = "read"\n}\n'
    ),
    "builtin/nomad-server": Template(
        "Allows what a Nomad server needs.", 'acl = "write"\n' + _AGENT + _WRITE_SERVICES
    ),
    "builtin/nomad-client": Template(
        "Allows what a Nomad client needs.",
        _AGENT + _WRITE_SERVICES + 'key_prefix "" {\n\tpolicy = "read"\n}\n',
    ),
    "builtin/api-gateway": Template(
        "Allows one API gateway to register, and to discover all services.",
        'mesh = "read"\n' + _READ_ALL + 'service "%s" {\n\tpolicy = "write"\n}\n', "gateway",
    ),
}  # fmt: skip


def _named(text: str, name: str, what: str) -> str:
    if len(name) > _NAME_SIZE_MAX or _NAME.fullmatch(name) is None:
        raise bad(
            f'{what} identity "{name[:128]}" has an invalid name. '
            "Only lowercase alphanumeric characters, '-' and '_' are allowed"
        )
    return text.replace("%s", name)


def service_rules(name: str) -> str:
    """The rules of a service's identity. Raises ``Misuse`` for a name that none can have."""
    return _named(_SERVICE, name, "service")


def node_rules(name: str) -> str:
    """The rules of a node's identity. Raises ``Misuse``."""
    return _named(_NODE, name, "node")


def template_rules(template: str, name: str) -> str:
    """The rules of a templated policy. Raises ``Misuse`` for an unknown one, or one whose variable is missing."""
    found = TEMPLATES.get(template)
    if found is None:
        raise bad(f"no such ACL templated policy with Name {template[:128]!r}")
    if not found.named:
        return found.text
    if not name:
        raise bad(f"validation error for templated policy: {template}: name is required")
    return _named(found.text, name, found.named)


def synthetic(template: str, rules: str) -> dict[str, Any]:
    """The policy that a template makes, as it is previewed."""
    id_ = uuid_of("synthetic", rules).replace("-", "")
    return {
        "ID": id_, "Name": f"synthetic-policy-{id_}", "Rules": rules, "Datacenters": None, "Hash": None,
        "Description": f"synthetic policy generated from templated policy: {template}", "CreateIndex": 0,
        "ModifyIndex": 0,
    }  # fmt: skip
