"""``/v1/acl``: Consul's tokens, mapped on the registry's one access control; policies, roles and methods beside them.

While that is off everything here answers as a Consul without ACLs does. A secret is shown once, when it is made, and
to who presents it: only its hash is kept.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from townhall.core import Outcome
from townhall.core.commands import BootstrapAccess, DeleteToken, PutToken
from townhall.core.queries import Reader
from townhall.face import Handler, Reply, Request, Route, Submit, Verb
from townhall.face.consul.acl_grants import grants, kept, policy_id, role_id, shown_links
from townhall.face.consul.acl_methods import Methods
from townhall.face.consul.acl_policies import Policies
from townhall.face.consul.acl_roles import Roles
from townhall.face.consul.blocking import json_reply
from townhall.face.consul.bodies import Body
from townhall.face.consul.errors import bad, no_such_path, text
from townhall.face.consul.ids import UUID
from townhall.face.consul.requests import ReadOptions, decode_body, first, flag, read_options
from townhall.face.consul.site import Site, Sited
from townhall.model.access import ANONYMOUS, Level, Resource, Token
from townhall.model.errors import Conflict, TownhallError

__all__ = ["Acl", "routes"]

_DISABLED = "ACL support disabled"
_ANONYMOUS = "00000000-0000-0000-0000-000000000002"
_HIDDEN = "<hidden>"
_UNSET = "0001-01-01T00:00:00Z"
_TTL_MIN_MS, _TTL_MAX_MS = 60_000, 86_400_000
"""Bounds of an expiry, as Consul has them unless it is configured otherwise."""


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    acl = Acl(face.site)
    rows: list[tuple[str, str, Handler]] = [
        ("PUT", "/bootstrap", acl.bootstrap), ("GET", "/tokens", acl.tokens), ("PUT", "/token", acl.create_token),
        ("GET", "/token/{id}", acl.get_token), ("PUT", "/token/{id}", acl.put_token),
        ("DELETE", "/token/{id}", acl.delete_token), ("PUT", "/token/{id}/clone", acl.clone_token),
        ("GET", "/replication", acl.replication), ("POST", "/logout", acl.logout),
        *Policies(face.site).rows(), *Roles(face.site).rows(), *Methods(face.site).rows(),
        *((method, "/{rest...}", acl.absent) for method in ("GET", "PUT", "POST", "DELETE")),
    ]  # fmt: skip
    return [Route(method, "/v1/acl" + path, _guarded(handler)) for method, path, handler in rows]


def _guarded(handler: Handler) -> Handler:
    """Everything is refused in one way while access control is off."""

    def guarded(request: Request, reader: Reader) -> Verb:
        if not (reader.state.access_enabled or reader.actor.restricted):
            return text(401, _DISABLED)
        return handler(request, reader)

    return guarded


class Acl:
    """Handlers of tokens. Who may do what is decided in the core."""

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
            return json_reply(reader, options, {"ID": secret, **_token(reader, token, secret)})

        return Submit((BootstrapAccess(),), render)

    def replication(self, request: Request, reader: Reader) -> Verb:
        """There is none to other datacenters."""
        shown = {
            "Enabled": False, "Running": False, "SourceDatacenter": "", "ReplicationType": "", "ReplicatedIndex": 0,
            "ReplicatedTokenIndex": 0, "LastSuccess": _UNSET, "LastError": _UNSET, "LastErrorMessage": "",
        }  # fmt: skip
        return json_reply(reader, read_options(request, self._site), shown)

    def absent(self, request: Request, reader: Reader) -> Verb:
        """No such path, which only those are told who might write something here."""
        reader.require(Resource.OPERATOR, Level.WRITE, "")
        return no_such_path(request.path)

    def logout(self, request: Request, reader: Reader) -> Verb:
        """Ends a token that a login gave; there is none, as nobody logs in."""
        if not reader.actor.token_id:
            return text(403, "ACL not found")
        return text(403, "Permission denied: token wasn't created via login")

    def tokens(self, request: Request, reader: Reader) -> Verb:
        """All tokens, or those with one policy, role or service; secrets are not shown."""
        options = read_options(request, self._site)
        found = list(reader.tokens())
        shown = [_token(reader, token) for token in found if token.id != ANONYMOUS]
        shown.append(_anonymous(reader))
        for parameter, field, name in (
            ("policy", "Policies", "ID"), ("role", "Roles", "ID"), ("servicename", "ServiceIdentities", "ServiceName"),
        ):  # fmt: skip
            wanted = first(request, parameter)
            if wanted:
                shown = [token for token in shown if any(link.get(name) == wanted for link in token.get(field, ()))]
        if first(request, "authmethod"):
            shown = []
        return json_reply(reader, options, shown)

    def get_token(self, request: Request, reader: Reader) -> Verb:
        """One token; ``self`` is that of the request."""
        options = read_options(request, self._site)
        wanted = request.segments["id"]
        if wanted == "self":
            token = reader.state.tokens.get(reader.actor.token_id)
            if token is None:
                return text(403, "ACL not found")
            return json_reply(reader, options, _token(reader, token, _presented(request)))
        if wanted == _ANONYMOUS:
            reader.require(Resource.OPERATOR, Level.READ, "")
            return json_reply(reader, options, _anonymous(reader))
        token = _find(reader, wanted)
        if token is None:
            return text(403, "ACL not found")
        shown = _token(reader, token)
        return json_reply(reader, options, shown | _expanded(reader, token) if flag(request, "expanded") else shown)

    def create_token(self, request: Request, reader: Reader) -> Verb:
        """A new token."""
        options = read_options(request, self._site)
        body = _body(request)
        accessor = body.text("AccessorID")
        if accessor and UUID.fullmatch(accessor) is None:
            raise bad("Invalid Token: AccessorID is not a valid UUID")
        return self._put(
            options, replace(_command(request, reader, body), secret=body.text("SecretID"), new_id=accessor)
        )

    def put_token(self, request: Request, reader: Reader) -> Verb:
        """Change a token; its secret stays. That of everybody begins with its first change."""
        options = read_options(request, self._site)
        wanted, body = request.segments["id"], _body(request)
        if body.text("AccessorID") not in ("", wanted):
            raise bad("Token Accessor ID in URL and payload do not match")
        if wanted == _ANONYMOUS:
            reader.require(Resource.OPERATOR, Level.WRITE, "")
            known = ANONYMOUS in reader.state.tokens
            command = _command(request, reader, body, token_id=ANONYMOUS if known else "")
            return self._put(options, command if known else replace(command, new_id=ANONYMOUS))
        token = _existing(reader, wanted)
        if body.has("Local") and body.flag("Local") != bool(kept(token).get("Local")):
            raise bad("Cannot toggle local mode of " + wanted)
        return self._put(options, _command(request, reader, body, token_id=token.id))

    def clone_token(self, request: Request, reader: Reader) -> Verb:
        """A token with the same rights and another secret."""
        options = read_options(request, self._site)
        token = _existing(reader, request.segments["id"])
        body = _body(request)
        command = PutToken(
            policies=token.policies, description=body.text("Description") or token.description,
            management=token.management, roles=token.roles, rules=token.rules, extra=token.extra,
        )  # fmt: skip
        return self._put(options, command)

    def _put(self, options: ReadOptions, command: PutToken) -> Submit:
        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            token, secret = _made(outcomes[0])
            if token.id == ANONYMOUS:
                return json_reply(reader, options, _anonymous(reader))
            return json_reply(reader, options, _token(reader, token, secret))

        return Submit((command,), render)

    def delete_token(self, request: Request, reader: Reader) -> Verb:
        """Revoke a token."""
        options = read_options(request, self._site)
        if request.segments["id"] == _ANONYMOUS:
            reader.require(Resource.OPERATOR, Level.WRITE, "")
            raise bad("Delete operation not permitted on the anonymous token")
        token = _existing(reader, request.segments["id"], "Cannot find token to delete", 404)
        if token.id == reader.actor.token_id:
            raise bad("Deletion of the request's authorization token is not permitted")

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            outcome = outcomes[0]
            if isinstance(outcome, TownhallError):
                raise outcome
            return json_reply(reader, options, True)

        return Submit((DeleteToken(id=token.id),), render)


# --- shapes


def _token(reader: Reader, token: Token, secret: str = "") -> dict[str, Any]:
    index = (token.revision or reader.position) + 1
    shown = {
        "AccessorID": token.id, "SecretID": secret or _HIDDEN, "Description": token.description,
        **shown_links(reader, token), "Local": bool(kept(token).get("Local")), "CreateTime": _time(token.created_at),
        "Hash": None, "CreateIndex": index, "ModifyIndex": index,
    }  # fmt: skip
    return shown | {"ExpirationTime": _time(token.expires_at)} if token.expires_at else shown


def _anonymous(reader: Reader) -> dict[str, Any]:
    token = reader.state.tokens.get(ANONYMOUS) or Token(ANONYMOUS, b"", (), "Anonymous Token", revision=1)
    return _token(reader, token, "anonymous") | {"AccessorID": _ANONYMOUS}


def _expanded(reader: Reader, token: Token) -> dict[str, Any]:
    """What a token's links come to."""
    state = reader.state
    roles = [state.roles[name] for name in token.roles if name in state.roles]
    names = dict.fromkeys([*token.policies, *(name for role in roles for name in role.policies)])
    return {
        "ExpandedPolicies": [{"ID": policy_id(name), "Name": name} for name in names if name in state.policies],
        "ExpandedRoles": [{"ID": role_id(role.name), "Name": role.name} for role in roles],
        "NamespaceDefaultPolicyIDs": None, "NamespaceDefaultRoleIDs": None, "AgentACLDefaultPolicy": "deny",
        "AgentACLDownPolicy": "extend-cache", "ResolvedByAgent": "",
    }  # fmt: skip


def _time(time_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(time_ms / 1_000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- what a body asks for


def _body(request: Request) -> Body:
    what = "Token decoding failed"
    return Body(decode_body(request, what) if request.body.strip() else {}, None, what)


def _command(request: Request, reader: Reader, body: Body, *, token_id: str = "") -> PutToken:
    reader.require(Resource.OPERATOR, Level.WRITE, "")
    given = grants(reader, body)
    before = reader.state.tokens.get(token_id)
    local = body.flag("Local") or bool(before is not None and kept(before).get("Local"))
    if local and any(one.get("Datacenters") for one in given.words.get("ServiceIdentities", ())):
        raise bad("Service identity cannot specify a list of datacenters on a local token")
    ttl_ms = body.duration_ms("ExpirationTTL")
    if ttl_ms and before is not None:
        raise bad("Cannot change expiration time of " + before.id)
    if ttl_ms and not _TTL_MIN_MS <= ttl_ms <= _TTL_MAX_MS:
        raise bad(f"ExpirationTime cannot be {'less than 1m0s' if ttl_ms < _TTL_MIN_MS else 'more than 24h0m0s'} "
                  "in the future")  # fmt: skip
    if before is not None and before.expires_at:
        ttl_ms = max(before.expires_at - request.live.now_ms(), 1)  # An expiry stays what it is.
    return PutToken(
        id=token_id, policies=given.policies, roles=given.roles, rules=given.rules,
        description=body.text("Description"), ttl_ms=ttl_ms, management=given.management,
        extra=given.beside({"Local": local}),
    )  # fmt: skip


def _presented(request: Request) -> str:
    """The secret that came with the request: who holds it may see it."""
    header = request.headers.get("x-consul-token", "")
    return first(request, "token") or header or request.headers.get("authorization", "").partition(" ")[2].strip()


def _find(reader: Reader, accessor: str) -> Token | None:
    return next((token for token in reader.tokens() if token.id == accessor), None)


def _existing(reader: Reader, accessor: str, missing: str = "ACL not found", status: int = 403) -> Token:
    found = _find(reader, accessor)
    if found is None:
        raise bad(missing, status)
    return found


def _made(outcome: Outcome | TownhallError) -> tuple[Token, str]:
    if isinstance(outcome, TownhallError):
        raise outcome
    result = outcome.result
    assert isinstance(result, tuple)
    token, secret = result
    assert isinstance(token, Token)
    return token, str(secret)
