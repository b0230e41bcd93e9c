"""``/v1/acl/policy`` and ``templated-policy``: named rules in the text that they were written in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from townhall.core import Outcome
from townhall.core.commands import DeletePolicy, PutPolicy
from townhall.core.queries import Reader
from townhall.face import Handler, Reply, Request, Submit, Verb
from townhall.face.consul.acl_grants import MANAGEMENT, policy_id
from townhall.face.consul.acl_rules import core_rules, rules_text
from townhall.face.consul.acl_templates import TEMPLATES, synthetic, template_rules
from townhall.face.consul.blocking import json_reply
from townhall.face.consul.bodies import Body
from townhall.face.consul.errors import bad, text
from townhall.face.consul.ids import UUID
from townhall.face.consul.requests import decode_body, read_options
from townhall.face.consul.site import Site
from townhall.model.access import Level, Policy, Resource
from townhall.model.errors import TownhallError

__all__ = ["Policies"]

_RULES, _DATACENTERS = "consul.rules", "consul.datacenters"
_NAME_SIZE_MAX = 128
_ALL = "\n".join(f'{kind} = "write"' for kind in ("acl", "keyring", "mesh", "operator", "peering"))


class Policies:
    """Handlers of policies. Who may do what is decided in the core."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def rows(self) -> list[tuple[str, str, Handler]]:
        """Method, path below ``/v1/acl`` and handler."""
        return [
            ("GET", "/policies", self.listing), ("PUT", "/policy", self.create), ("GET", "/policy/{id}", self.get),
            ("PUT", "/policy/{id}", self.put), ("DELETE", "/policy/{id}", self.delete),
            ("GET", "/policy/name/{name...}", self.get_by_name), ("GET", "/templated-policies", self.templates),
            ("GET", "/templated-policy/name/{name...}", self.template),
            ("POST", "/templated-policy/preview/{name...}", self.preview),
        ]  # fmt: skip

    def listing(self, request: Request, reader: Reader) -> Verb:
        """All policies, without their rules."""
        shown = [_policy(policy) for policy in reader.policies()]
        for policy in shown:
            policy.pop("Rules")
        return json_reply(reader, read_options(request, self._site), [_management(), *shown])

    def get(self, request: Request, reader: Reader) -> Verb:
        """One policy."""
        wanted = request.segments["id"]
        if UUID.fullmatch(wanted) is None:
            raise bad("failed acl policy lookup: index error: UUID must be 36 characters")
        return self._one(request, reader, wanted, lambda policy: policy_id(policy.name) == wanted)

    def get_by_name(self, request: Request, reader: Reader) -> Verb:
        """One policy."""
        wanted = request.segments["name"]
        return self._one(request, reader, wanted, lambda policy: policy.name == wanted)

    def _one(self, request: Request, reader: Reader, wanted: str, fits: Callable[[Policy], bool]) -> Verb:
        options = read_options(request, self._site)
        found = next((policy for policy in reader.policies() if fits(policy)), None)
        if wanted in MANAGEMENT.values():
            return json_reply(reader, options, _management() | {"Rules": _ALL})
        if found is None:
            return text(404, "Requested policy does not exist: ACL not found")
        return json_reply(reader, options, _policy(found))

    def create(self, request: Request, reader: Reader) -> Verb:
        """A new policy under a name that is free."""
        body = _body(request)
        if body.text("ID"):
            raise bad("Cannot specify the ID when creating a new policy")
        name = body.text("Name")
        if any(policy.name == name for policy in reader.policies()) or name == MANAGEMENT["Name"]:
            raise bad(f'Invalid Policy: A Policy with Name "{name[:128]}" already exists')
        return self._write(request, body, name)

    def put(self, request: Request, reader: Reader) -> Verb:
        """Other rules or another description; the name is what a policy is known by and stays."""
        body, wanted = _body(request), request.segments["id"]
        if body.text("ID") not in ("", wanted):
            raise bad("Policy ID in URL and payload do not match")
        if wanted == MANAGEMENT["ID"]:
            raise bad("Changing the Rules for the builtin global-management policy is not permitted")
        found = _named(reader, wanted)
        if body.text("Name") not in ("", found.name):
            raise bad("A policy cannot be renamed: make another one")
        return self._write(request, body, found.name)

    def _write(self, request: Request, body: Body, name: str) -> Submit:
        options = read_options(request, self._site)
        if not name:
            raise bad("Invalid Policy: no Name is set")
        if len(name) > _NAME_SIZE_MAX or not all(one.isascii() and (one.isalnum() or one in "-_/") for one in name):
            raise bad(
                "Invalid Policy: invalid Name. Only alphanumeric characters, a single '/', '-' and '_' are allowed"
            )
        rules = body.text("Rules")
        extra = {_RULES: rules}
        if body.texts("Datacenters"):
            extra[_DATACENTERS] = " ".join(body.texts("Datacenters"))
        command = PutPolicy(name=name, rules=core_rules(rules), description=body.text("Description"), extra=extra)

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            outcome = outcomes[0]
            if isinstance(outcome, TownhallError):
                raise outcome
            return json_reply(reader, options, _policy(reader.state.policies[name]))

        return Submit((command,), render)

    def delete(self, request: Request, reader: Reader) -> Verb:
        """Forget a policy; tokens and roles lose it."""
        options = read_options(request, self._site)
        if request.segments["id"] == MANAGEMENT["ID"]:
            raise bad("Delete operation not permitted on the builtin global-management policy")
        found = _named(reader, request.segments["id"])

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            outcome = outcomes[0]
            if isinstance(outcome, TownhallError):
                raise outcome
            return json_reply(reader, options, True)

        return Submit((DeletePolicy(name=found.name),), render)

    # --- templates

    def templates(self, request: Request, reader: Reader) -> Verb:
        """All templates by their names."""
        reader.require(Resource.OPERATOR, Level.READ, "")
        return json_reply(reader, read_options(request, self._site), {name: _template(name) for name in TEMPLATES})

    def template(self, request: Request, reader: Reader) -> Verb:
        """One template."""
        reader.require(Resource.OPERATOR, Level.READ, "")
        name = request.segments["name"]
        if name not in TEMPLATES:
            return text(400, f"Invalid templated policy Name: {name[:128]}")
        return json_reply(reader, read_options(request, self._site), _template(name))

    def preview(self, request: Request, reader: Reader) -> Verb:
        """The policy that a template makes of these variables."""
        reader.require(Resource.OPERATOR, Level.READ, "")
        name = request.segments["name"]
        body = Body(decode_body(request) if request.body.strip() else {}, None)
        variables = body.child("TemplateVariables", None) or body
        rules = template_rules(name, variables.text("Name"))
        return json_reply(reader, read_options(request, self._site), synthetic(name, rules))


def _body(request: Request) -> Body:
    what = "Policy decoding failed"
    return Body(decode_body(request, what), None, what)


def _management() -> dict[str, Any]:
    return {
        **MANAGEMENT, "Description": "Builtin Policy that grants unlimited access", "Datacenters": None, "Hash": None,
        "CreateIndex": 1, "ModifyIndex": 1,
    }  # fmt: skip


def _template(name: str) -> dict[str, Any]:
    template = TEMPLATES[name]
    shown = template.text.replace("%s", "{{.Name}}")
    return {"TemplateName": name, "Schema": template.schema, "Template": shown, "Description": template.description}


def _policy(policy: Policy) -> dict[str, Any]:
    rules = policy.extra.get(_RULES)
    index = (policy.revision or 1) + 1
    return {
        "ID": policy_id(policy.name), "Name": policy.name, "Description": policy.description,
        "Rules": rules_text(policy.rules) if rules is None else rules,
        "Datacenters": policy.extra[_DATACENTERS].split() if _DATACENTERS in policy.extra else None, "Hash": None,
        "CreateIndex": index, "ModifyIndex": index,
    }  # fmt: skip


def _named(reader: Reader, wanted: str) -> Policy:
    found = next((policy for policy in reader.policies() if policy_id(policy.name) == wanted), None)
    if found is None:
        raise bad("Requested policy does not exist: ACL not found", 404)
    return found
