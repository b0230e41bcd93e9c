"""``/v1/acl``: Consul's tokens and policies, mapped on the registry's one access control.

While that is off everything here answers as a Consul without ACLs does. A secret is shown once, when it is made: only
its hash is kept. Roles, auth methods and binding rules are not there; see docs/conformance/consul.md.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from townhall.core import Command, Outcome
from townhall.core.commands import BootstrapAccess, DeletePolicy, DeleteToken, PutPolicy, PutToken, Transact
from townhall.core.queries import Reader
from townhall.face import Handler, Reply, Request, Route, Submit, Verb
from townhall.face.consul.acl_rules import core_rules
from townhall.face.consul.blocking import encode, json_reply
from townhall.face.consul.bodies import Body
from townhall.face.consul.errors import bad, no_such_path, text
from townhall.face.consul.ids import UUID, uuid_of
from townhall.face.consul.kv_shapes import key_bytes
from townhall.face.consul.requests import ReadOptions, decode_body, first, read_options
from townhall.face.consul.site import Site, Sited
from townhall.model.access import Level, Policy, Resource, Token
from townhall.model.errors import Conflict, TownhallError
from townhall.model.keys import Delete, Operation, Put, Transaction

__all__ = ["Acl", "routes"]

SPACE = "consul.acl"
_DISABLED = "ACL support disabled"
_MANAGEMENT = {"ID": "00000000-0000-0000-0000-000000000001", "Name": "global-management"}
_ANONYMOUS = "00000000-0000-0000-0000-000000000002"
_HIDDEN = "<hidden>"
_LISTS = ("roles", "auth-methods", "binding-rules", "templated-policies")


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    acl = Acl(face.site)
    base = "/v1/acl"
    rows: list[tuple[str, str, Handler]] = [
        ("PUT", "/bootstrap", acl.bootstrap), ("GET", "/tokens", acl.tokens), ("PUT", "/token", acl.create_token),
        ("GET", "/token/{id}", acl.get_token), ("PUT", "/token/{id}", acl.put_token),
        ("DELETE", "/token/{id}", acl.delete_token), ("PUT", "/token/{id}/clone", acl.clone_token),
        ("GET", "/policies", acl.policies), ("PUT", "/policy", acl.create_policy),
        ("GET", "/policy/{id}", acl.get_policy), ("PUT", "/policy/{id}", acl.put_policy),
        ("DELETE", "/policy/{id}", acl.delete_policy), ("GET", "/policy/name/{name...}", acl.get_policy_by_name),
        ("GET", "/replication", acl.replication), *((("GET", f"/{name}", acl.nothing)) for name in _LISTS),
        ("POST", "/login", acl.login), *((method, "/{rest...}", acl.absent) for method in ("GET", "PUT", "POST", "DELETE")),
    ]  # fmt: skip
    return [Route(method, base + path, _guarded(handler)) for method, path, handler in rows]


def _guarded(handler: Handler) -> Handler:
    """Everything is refused in one way while access control is off."""

    def guarded(request: Request, reader: Reader) -> Verb:
        if not (reader.state.access_enabled or reader.actor.restricted):
            return text(401, _DISABLED)
        return handler(request, reader)

    return guarded


class Acl:
    """Handlers of tokens and policies. Who may do what is decided in the core."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def bootstrap(self, request: Request, reader: Reader) -> Verb:
        """The first management token, once. Its secret is drawn here."""
        options = read_options(request, self._site)
        if request.body.strip() and Body(decode_body(request), None).text("BootstrapSecret"):
            raise bad("BootstrapSecret is not supported: the secret is drawn by the registry")

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            if isinstance(outcomes[0], Conflict):
                return text(403, "Permission denied: ACL bootstrap no longer allowed (reset index: 1)")
            token, secret = _made(outcomes[0])
            return json_reply(reader, options, _token(token, secret))

        return Submit((BootstrapAccess(),), render)

    def replication(self, request: Request, reader: Reader) -> Verb:
        """There is none to other datacenters."""
        shown = {
            "Enabled": False, "Running": False, "SourceDatacenter": "", "ReplicationType": "", "ReplicatedIndex": 0,
            "ReplicatedTokenIndex": 0, "LastSuccess": "0001-01-01T00:00:00Z", "LastError": "0001-01-01T00:00:00Z",
            "LastErrorMessage": "",
        }  # fmt: skip
        return json_reply(reader, read_options(request, self._site), shown)

    def nothing(self, request: Request, reader: Reader) -> Verb:
        """A list of what is not there."""
        reader.require(Resource.OPERATOR, Level.READ, "")
        return json_reply(reader, read_options(request, self._site), [])

    def absent(self, request: Request, reader: Reader) -> Verb:
        """No such path, which only those are told who might write something here."""
        reader.require(Resource.OPERATOR, Level.WRITE, "")
        return no_such_path(request.path)

    def login(self, request: Request, reader: Reader) -> Verb:
        """There are no auth methods to log in by."""
        body = Body(decode_body(request), None)
        return text(403, f'ACL not found: auth method "{body.text("AuthMethod")[:128]}" not found')

    # --- tokens

    def tokens(self, request: Request, reader: Reader) -> Verb:
        """All tokens, or those with one policy; secrets are not shown."""
        options = read_options(request, self._site)
        shown = [_token(token) for token in reader.tokens()]
        shown.append(_anonymous())
        wanted = first(request, "policy")
        if wanted:
            shown = [token for token in shown if any(policy["ID"] == wanted for policy in token["Policies"])]
        return json_reply(reader, options, shown)

    def get_token(self, request: Request, reader: Reader) -> Verb:
        """One token; ``self`` is that of the request."""
        options = read_options(request, self._site)
        wanted = request.segments["id"]
        if wanted == "self":
            token = reader.state.tokens.get(reader.actor.token_id)
            if token is None:
                return text(403, "ACL not found")
            return json_reply(reader, options, _token(token, _presented(request)))
        if wanted == _ANONYMOUS:
            reader.require(Resource.OPERATOR, Level.READ, "")
            return json_reply(reader, options, _anonymous())
        token = _find(reader, wanted)
        return text(403, "ACL not found") if token is None else json_reply(reader, options, _token(token))

    def create_token(self, request: Request, reader: Reader) -> Verb:
        """A new token."""
        options = read_options(request, self._site)
        body = Body(decode_body(request) if request.body.strip() else {}, None)
        accessor = body.text("AccessorID")
        if accessor and UUID.fullmatch(accessor) is None:
            raise bad("Invalid Token: AccessorID is not a valid UUID")
        command = _token_command(reader, body, "")
        return self._put(request, options, msgspec.structs.replace(command, new_id=accessor))

    def put_token(self, request: Request, reader: Reader) -> Verb:
        """Change a token; its secret stays."""
        options = read_options(request, self._site)
        token = _existing(reader, request.segments["id"])
        return self._put(request, options, _token_command(reader, Body(decode_body(request), None), token.id))

    def clone_token(self, request: Request, reader: Reader) -> Verb:
        """A token with the same rights and another secret."""
        options = read_options(request, self._site)
        token = _existing(reader, request.segments["id"])
        body = Body(decode_body(request) if request.body.strip() else {}, None)
        command = PutToken(
            policies=token.policies, description=body.text("Description") or token.description,
            management=token.management,
        )  # fmt: skip
        return self._put(request, options, command)

    def _put(self, request: Request, options: ReadOptions, command: PutToken) -> Submit:
        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            token, secret = _made(outcomes[0])
            return json_reply(reader, options, _token(token, secret))

        return Submit((command,), render)

    def delete_token(self, request: Request, reader: Reader) -> Verb:
        """Revoke a token."""
        token = _existing(reader, request.segments["id"])
        return self._done(request, DeleteToken(id=token.id))

    def _done(self, request: Request, *commands: Command) -> Submit:
        options = read_options(request, self._site)

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            for outcome in outcomes:
                if isinstance(outcome, TownhallError):
                    raise outcome
            return json_reply(reader, options, True)

        return Submit(commands, render)

    # --- policies

    def policies(self, request: Request, reader: Reader) -> Verb:
        """All policies, without their rules."""
        shown = [_policy(reader, policy) for policy in reader.policies()]
        for policy in shown:
            policy.pop("Rules")
        return json_reply(reader, read_options(request, self._site), [_management_policy(), *shown])

    def get_policy(self, request: Request, reader: Reader) -> Verb:
        """One policy."""
        wanted = request.segments["id"]
        if UUID.fullmatch(wanted) is None:
            raise bad("failed acl policy lookup: index error: UUID must be 36 characters")
        return self._policy(request, reader, wanted, lambda policy: policy_id(policy.name) == wanted)

    def get_policy_by_name(self, request: Request, reader: Reader) -> Verb:
        """One policy."""
        wanted = request.segments["name"]
        return self._policy(request, reader, wanted, lambda policy: policy.name == wanted)

    def _policy(self, request: Request, reader: Reader, wanted: str, fits: Callable[[Policy], bool]) -> Verb:
        options = read_options(request, self._site)
        found = next((policy for policy in reader.policies() if fits(policy)), None)
        if wanted in _MANAGEMENT.values():
            return json_reply(reader, options, _management_policy() | {"Rules": 'acl = "write"\noperator = "write"'})
        if found is None:
            return text(404, "Requested policy does not exist: ACL not found")
        return json_reply(reader, options, _policy(reader, found))

    def create_policy(self, request: Request, reader: Reader) -> Verb:
        """A new policy under a name that is free."""
        body = Body(decode_body(request), None)
        name = body.text("Name")
        if any(policy.name == name for policy in reader.policies()) or name == _MANAGEMENT["Name"]:
            raise bad(f'Invalid Policy: A Policy with Name "{name[:128]}" already exists')
        return self._write_policy(request, body, name)

    def put_policy(self, request: Request, reader: Reader) -> Verb:
        """Other rules or another description; the name is what a policy is known by and stays."""
        body = Body(decode_body(request), None)
        found = _named_policy(reader, request.segments["id"])
        if body.text("Name") not in ("", found.name):
            raise bad("A policy cannot be renamed: make another one")
        return self._write_policy(request, body, found.name)

    def _write_policy(self, request: Request, body: Body, name: str) -> Submit:
        options = read_options(request, self._site)
        if not name:
            raise bad("Invalid Policy: no Name is set")
        rules = body.text("Rules")
        command = PutPolicy(name=name, rules=core_rules(rules), description=body.text("Description"))
        kept = Transact(space=SPACE, transaction=Transaction(success=(Put(_rules_key(name), encode(rules)),)))

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            for outcome in outcomes:
                if isinstance(outcome, TownhallError):
                    raise outcome
            return json_reply(reader, options, _policy(reader, reader.state.policies[name]))

        return Submit((command, kept), render)

    def delete_policy(self, request: Request, reader: Reader) -> Verb:
        """Forget a policy."""
        found = _named_policy(reader, request.segments["id"])
        operations: tuple[Operation, ...] = (Delete(_rules_key(found.name)),)
        return self._done(
            request,
            DeletePolicy(name=found.name),
            Transact(space=SPACE, transaction=Transaction(success=operations)),
        )


# --- shapes


def policy_id(name: str) -> str:
    """A policy's id follows from its name, which is what the registry knows it by."""
    return uuid_of("policy", name)


def _rules_key(name: str) -> bytes:
    return key_bytes(f"policy/{name}")


def _management_policy() -> dict[str, Any]:
    return {
        **_MANAGEMENT, "Description": "Builtin Policy that grants unlimited access", "Datacenters": None, "Hash": None,
        "CreateIndex": 1, "ModifyIndex": 1,
    }  # fmt: skip


def _policy(reader: Reader, policy: Policy) -> dict[str, Any]:
    kv = reader.get(SPACE, _rules_key(policy.name))
    try:
        rules = msgspec.json.decode(kv.value, type=str) if kv is not None else ""
    except msgspec.MsgspecError:
        rules = ""  # Somebody wrote it into the space by other means.
    index = policy.revision or 1
    return {
        "ID": policy_id(policy.name), "Name": policy.name, "Description": policy.description, "Rules": rules,
        "Datacenters": None, "Hash": None, "CreateIndex": index, "ModifyIndex": index,
    }  # fmt: skip


def _token(token: Token, secret: str = "") -> dict[str, Any]:
    links = [{"ID": policy_id(name), "Name": name} for name in token.policies]
    shown = {
        "AccessorID": token.id, "SecretID": secret or _HIDDEN, "Description": token.description,
        "Policies": [_MANAGEMENT, *links] if token.management else links, "Local": False,
        "CreateTime": _time(token.created_at), "Hash": None, "CreateIndex": token.revision or 1,
        "ModifyIndex": token.revision or 1,
    }  # fmt: skip
    return shown | {"ExpirationTime": _time(token.expires_at)} if token.expires_at else shown


def _anonymous() -> dict[str, Any]:
    return {
        "AccessorID": _ANONYMOUS, "SecretID": "anonymous", "Description": "Anonymous Token", "Policies": [],
        "Local": False, "CreateTime": _time(0), "Hash": None, "CreateIndex": 1, "ModifyIndex": 1,
    }  # fmt: skip


def _time(time_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(time_ms / 1_000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- what a body asks for


def _token_command(reader: Reader, body: Body, token_id: str) -> PutToken:
    for name in ("Roles", "ServiceIdentities", "NodeIdentities", "TemplatedPolicies"):
        if body.raw(name):
            raise bad(f"{name} are not supported, only Policies")
    known = {policy_id(policy.name): policy.name for policy in reader.policies()}
    names: list[str] = []
    management = False
    for link in body.children("Policies", None):
        wanted, name = link.text("ID"), link.text("Name")
        if wanted == _MANAGEMENT["ID"] or name == _MANAGEMENT["Name"]:
            management = True
            continue
        found = known.get(wanted) or (name if name in known.values() else "")
        if not found:
            raise bad(f'No such ACL policy with name "{name[:128]}"' if name else f'No such ACL policy "{wanted[:64]}"')
        names.append(found)
    return PutToken(
        id=token_id, policies=tuple(dict.fromkeys(names)), description=body.text("Description"),
        ttl_ms=body.duration_ms("ExpirationTTL"), management=management, secret="" if token_id else body.text("SecretID"),
    )  # fmt: skip


def _presented(request: Request) -> str:
    """The secret that came with the request: who holds it may see it."""
    header = request.headers.get("x-consul-token", "")
    return first(request, "token") or header or request.headers.get("authorization", "").partition(" ")[2].strip()


def _find(reader: Reader, accessor: str) -> Token | None:
    return next((token for token in reader.tokens() if token.id == accessor), None)


def _existing(reader: Reader, accessor: str) -> Token:
    found = _find(reader, accessor)
    if found is None:
        raise bad("ACL not found", 403)
    return found


def _named_policy(reader: Reader, wanted: str) -> Policy:
    found = next((policy for policy in reader.policies() if policy_id(policy.name) == wanted), None)
    if found is None:
        raise bad("Requested policy does not exist: ACL not found", 404)
    return found


def _made(outcome: Outcome | TownhallError) -> tuple[Token, str]:
    if isinstance(outcome, TownhallError):
        raise outcome
    result = outcome.result
    assert isinstance(result, tuple)
    token, secret = result
    assert isinstance(token, Token)
    return token, str(secret)
