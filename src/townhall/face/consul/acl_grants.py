"""What tokens and roles are given: links to policies and roles, identities, templates, and what of it is shown.

Links become names in the core. Identities and templates become rules of the token or role itself; in which words they
were asked for is kept beside them, so that they are shown so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from townhall.core.queries import Reader
from townhall.face.consul.acl_rules import core_rules
from townhall.face.consul.acl_templates import node_rules, service_rules, template_rules
from townhall.face.consul.bodies import Body
from townhall.face.consul.errors import bad
from townhall.face.consul.ids import uuid_of
from townhall.model.access import Role, Rule, Token

__all__ = ["MANAGEMENT", "Grants", "grants", "kept", "policy_id", "role_id", "shown_links"]

MANAGEMENT = {"ID": "00000000-0000-0000-0000-000000000001", "Name": "global-management"}
EXTRA = "consul"
_KEPT = ("ServiceIdentities", "NodeIdentities", "TemplatedPolicies")


class Grants(msgspec.Struct, frozen=True):
    """What a body gives."""

    policies: tuple[str, ...]
    roles: tuple[str, ...]
    rules: tuple[Rule, ...]
    management: bool
    words: dict[str, Any]
    """The identities and templates as they are shown."""

    def beside(self, more: Mapping[str, Any]) -> dict[str, str]:
        """What the core keeps for us."""
        words = {name: value for name, value in {**self.words, **more}.items() if value}
        return {EXTRA: msgspec.json.encode(words).decode()} if words else {}


def policy_id(name: str) -> str:
    """A policy's id follows from its name, which is what the registry knows it by."""
    return uuid_of("policy", name)


def role_id(name: str) -> str:
    """A role's id, likewise."""
    return uuid_of("role", name)


def kept(holder: Token | Role) -> dict[str, Any]:
    """What was kept for us with a token or role."""
    try:
        return msgspec.json.decode(holder.extra.get(EXTRA, "{}"), type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}  # It came another way.


def shown_links(reader: Reader, holder: Token | Role) -> dict[str, Any]:
    """Links and identities of a token or role, as far as there are any; what they link to may be gone meanwhile."""
    policies = [{"ID": policy_id(name), "Name": name} for name in holder.policies if name in reader.state.policies]
    shown: dict[str, Any] = {}
    if isinstance(holder, Token):
        if holder.management:
            policies.insert(0, dict(MANAGEMENT))
        roles = [{"ID": role_id(name), "Name": name} for name in holder.roles if name in reader.state.roles]
        if roles:
            shown["Roles"] = roles
    if policies or isinstance(holder, Token):
        shown["Policies"] = policies
    words = kept(holder)
    return shown | {name: words[name] for name in _KEPT if name in words}


def grants(reader: Reader, body: Body) -> Grants:
    """What a body gives. Raises ``Misuse`` in Consul's words."""
    policies = {policy_id(name): name for name in reader.state.policies} | {MANAGEMENT["ID"]: MANAGEMENT["Name"]}
    roles = {role_id(name): name for name in reader.state.roles}
    named = _links(body, "Policies", policies, "policy")
    management = MANAGEMENT["Name"] in named
    words: dict[str, Any] = {}
    rules: list[Rule] = []
    for field, identify in (
        ("ServiceIdentities", _service), ("NodeIdentities", _node), ("TemplatedPolicies", _template),
    ):  # fmt: skip
        for given in body.children(field, None):
            shown, text = identify(given)
            if shown not in words.setdefault(field, []):
                words[field].append(shown)
                rules += core_rules(text)
    return Grants(
        tuple(name for name in named if name != MANAGEMENT["Name"]), tuple(_links(body, "Roles", roles, "role")),
        tuple(dict.fromkeys(rules)), management, words,
    )  # fmt: skip


def _links(body: Body, field: str, known: Mapping[str, str], what: str) -> Sequence[str]:
    names: list[str] = []
    for link in body.children(field, None):
        wanted, name = link.text("ID"), link.text("Name")
        found = known.get(wanted) if wanted else name if name in known.values() else None
        if found is None:
            raise bad(f'No such ACL {what} with {"ID" if wanted else "name"} "{(wanted or name)[:128]}"')
        names.append(found)
    return list(dict.fromkeys(names))


def _service(body: Body) -> tuple[dict[str, Any], str]:
    name, datacenters = body.text("ServiceName"), body.texts("Datacenters")
    if not name:
        raise bad("Service identity is missing the service name field on this token")
    return {"ServiceName": name, **({"Datacenters": datacenters} if datacenters else {})}, service_rules(name)


def _node(body: Body) -> tuple[dict[str, Any], str]:
    name, datacenter = body.text("NodeName"), body.text("Datacenter")
    if not name:
        raise bad("Node identity is missing the node name field on this token")
    if not datacenter:
        raise bad("Node identity is missing the datacenter field on this token")
    return {"NodeName": name, "Datacenter": datacenter}, node_rules(name)


def _template(body: Body) -> tuple[dict[str, Any], str]:
    template = body.text("TemplateName")
    variables = body.child("TemplateVariables", None)
    name = variables.text("Name") if variables is not None else ""
    shown: dict[str, Any] = {"TemplateName": template}
    if name:
        shown["TemplateVariables"] = {"name": name}
    return shown, template_rules(template, name)
