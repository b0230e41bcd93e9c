"""``/v1/acl/role``: named sets of policies, with identities of services and nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from townhall.core import Command, Outcome
from townhall.core.commands import DeleteRole, PutRole
from townhall.core.queries import Reader
from townhall.face import Handler, Reply, Request, Submit, Verb
from townhall.face.consul.acl_grants import grants, policy_id, role_id, shown_links
from townhall.face.consul.blocking import json_reply
from townhall.face.consul.bodies import Body
from townhall.face.consul.errors import bad, text
from townhall.face.consul.requests import decode_body, first, read_options
from townhall.face.consul.site import Site
from townhall.model.access import Role
from townhall.model.errors import TownhallError

__all__ = ["Roles"]


class Roles:
    """Handlers of roles. Who may do what is decided in the core."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def rows(self) -> list[tuple[str, str, Handler]]:
        """Method, path below ``/v1/acl`` and handler."""
        return [
            ("GET", "/roles", self.listing), ("PUT", "/role", self.create), ("GET", "/role/{id}", self.get),
            ("PUT", "/role/{id}", self.put), ("DELETE", "/role/{id}", self.delete),
            ("GET", "/role/name/{name...}", self.get_by_name),
        ]  # fmt: skip

    def listing(self, request: Request, reader: Reader) -> Verb:
        """All roles, or those with one policy."""
        wanted = first(request, "policy")
        shown = [
            _role(reader, role)
            for role in reader.roles()
            if not wanted or any(policy_id(name) == wanted for name in role.policies)
        ]
        return json_reply(reader, read_options(request, self._site), shown)

    def get(self, request: Request, reader: Reader) -> Verb:
        """One role."""
        wanted = request.segments["id"]
        return self._one(request, reader, lambda role: role_id(role.name) == wanted)

    def get_by_name(self, request: Request, reader: Reader) -> Verb:
        """One role."""
        wanted = request.segments["name"]
        return self._one(request, reader, lambda role: role.name == wanted)

    def _one(self, request: Request, reader: Reader, fits: Callable[[Role], bool]) -> Verb:
        options = read_options(request, self._site)
        found = next((role for role in reader.roles() if fits(role)), None)
        if found is None:
            return text(404, "Requested role does not exist: ACL not found")
        return json_reply(reader, options, _role(reader, found))

    def create(self, request: Request, reader: Reader) -> Verb:
        """A new role under a name that is free."""
        body = _body(request)
        if body.text("ID"):
            raise bad("Cannot specify the ID when creating a new role")
        name = body.text("Name")
        if any(role.name == name for role in reader.roles()):
            raise bad(f'Invalid Role: A Role with Name "{name[:128]}" already exists')
        return self._write(request, reader, body, name)

    def put(self, request: Request, reader: Reader) -> Verb:
        """Other rights or another description; the name is what a role is known by and stays."""
        body, wanted = _body(request), request.segments["id"]
        if body.text("ID") not in ("", wanted):
            raise bad("Role ID in URL and payload do not match")
        found = _named(reader, wanted)
        if body.text("Name") not in ("", found.name):
            raise bad("A role cannot be renamed: make another one")
        return self._write(request, reader, body, found.name)

    def _write(self, request: Request, reader: Reader, body: Body, name: str) -> Submit:
        if not name:
            raise bad("Invalid Role: no Name is set")
        given = grants(reader, body)
        if given.management:
            raise bad("a role cannot have global-management here: give it to tokens")
        command = PutRole(
            name=name, policies=given.policies, rules=given.rules, description=body.text("Description"),
            extra=given.beside({}),
        )  # fmt: skip
        return self._submit(request, command, lambda reader: _role(reader, reader.state.roles[name]))

    def delete(self, request: Request, reader: Reader) -> Verb:
        """Forget a role; tokens lose it."""
        found = _named(reader, request.segments["id"])
        return self._submit(request, DeleteRole(name=found.name), lambda reader: True)

    def _submit(self, request: Request, command: Command, answer: Callable[[Reader], object]) -> Submit:
        options = read_options(request, self._site)

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            outcome = outcomes[0]
            if isinstance(outcome, TownhallError):
                raise outcome
            return json_reply(reader, options, answer(reader))

        return Submit((command,), render)


def _body(request: Request) -> Body:
    what = "Role decoding failed"
    return Body(decode_body(request, what), None, what)


def _role(reader: Reader, role: Role) -> dict[str, Any]:
    index = (role.revision or 1) + 1
    return {
        "ID": role_id(role.name), "Name": role.name, "Description": role.description, **shown_links(reader, role),
        "Hash": None, "CreateIndex": index, "ModifyIndex": index,
    }  # fmt: skip


def _named(reader: Reader, wanted: str) -> Role:
    found = next((role for role in reader.roles() if role_id(role.name) == wanted), None)
    if found is None:
        raise bad("Requested role does not exist: ACL not found", 404)
    return found
