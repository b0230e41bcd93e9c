"""``/v1/acl/auth-method``, ``binding-rule``, ``login`` and ``logout``.

Methods and binding rules are kept and listed as they came, for the programs that manage them. Nobody logs in by them:
to judge a foreign identity this registry would have to call the provider or trust a library of cryptography that it
does without, so login says that plainly. Tokens are given out by who may write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from townhall.core import Outcome
from townhall.core.commands import Transact
from townhall.core.queries import Reader
from townhall.face import Handler, Reply, Request, Submit, Verb
from townhall.face.consul.blocking import encode, json_reply
from townhall.face.consul.bodies import Body
from townhall.face.consul.errors import bad, text
from townhall.face.consul.ids import Identifiers
from townhall.face.consul.kv_shapes import key_bytes, prefix_span
from townhall.face.consul.requests import decode_body, first, read_options
from townhall.face.consul.site import Site
from townhall.model.access import Level, Resource
from townhall.model.errors import TownhallError
from townhall.model.keys import Delete, KeyValue, Operation, Put, Transaction

__all__ = ["SPACE", "Methods"]

SPACE = "consul.acl"
_TYPES = ("kubernetes", "jwt", "oidc", "aws-iam")
_BIND_TYPES = ("service", "role", "node", "policy", "templated-policy")
_METHOD, _RULE = "method/", "rule/"
_HIDDEN = ("Config", "NamespaceRules")
_OURS = frozenset({"CreateIndex", "ModifyIndex", "Hash"})


class Methods:
    """Handlers of auth methods and binding rules."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._identifiers = Identifiers(site.node)

    def rows(self) -> list[tuple[str, str, Handler]]:
        """Method, path below ``/v1/acl`` and handler."""
        return [
            ("GET", "/auth-methods", self.methods), ("PUT", "/auth-method", self.create_method),
            ("GET", "/auth-method/{id...}", self.get_method), ("PUT", "/auth-method/{id...}", self.put_method),
            ("DELETE", "/auth-method/{id...}", self.delete_method), ("GET", "/binding-rules", self.rules),
            ("PUT", "/binding-rule", self.create_rule), ("GET", "/binding-rule/{id}", self.get_rule),
            ("PUT", "/binding-rule/{id}", self.put_rule), ("DELETE", "/binding-rule/{id}", self.delete_rule),
            ("POST", "/login", self.login),
        ]  # fmt: skip

    def login(self, request: Request, reader: Reader) -> Verb:
        """Nobody can, and which methods there are is not told to who has no token."""
        body = Body(decode_body(request), None)
        name = body.text("AuthMethod")[:128]
        return text(
            403, f'ACL not found: auth method "{name}" not found, or logins by it are not done by this registry'
        )

    # --- methods

    def methods(self, request: Request, reader: Reader) -> Verb:
        """All methods, without what is within them."""
        shown = [
            {name: value for name, value in each.items() if name not in _HIDDEN} for each in _listed(reader, _METHOD)
        ]
        return json_reply(reader, read_options(request, self._site), shown)

    def get_method(self, request: Request, reader: Reader) -> Verb:
        """One method."""
        return self._get(request, reader, _METHOD, "auth method")

    def create_method(self, request: Request, reader: Reader) -> Verb:
        """A new method under a name that is free."""
        value = _decoded(request)
        name = Body(value, None).text("Name")
        if not name:
            raise bad("Invalid Auth Method: no Name is set")
        if _stored(reader, _METHOD + name) is not None:
            raise bad(f'Invalid Auth Method: An Auth Method with Name "{name[:128]}" already exists')
        return self._put_method(request, reader, value, name)

    def put_method(self, request: Request, reader: Reader) -> Verb:
        """Another form of a method; its type stays."""
        value, name = _decoded(request), request.segments["id"]
        before = _existing(reader, _METHOD + name, "auth method")
        if Body(value, None).text("Name") not in ("", name):
            raise bad("Auth Method name in URL and payload do not match")
        if Body(value, None).text("Type") not in ("", before["Type"]):
            raise bad(f'Changing an auth method\'s type from "{before["Type"]}" is not permitted.')
        return self._put_method(request, reader, {"Type": before["Type"], **value}, name)

    def _put_method(self, request: Request, reader: Reader, value: Mapping[str, Any], name: str) -> Submit:
        body = Body(value, None)
        if body.text("Type") not in _TYPES:
            raise bad(f"Invalid Auth Method: Type should be one of: [{' '.join(_TYPES)}]")
        return self._put(request, _METHOD + name, {**value, "Name": name})

    def delete_method(self, request: Request, reader: Reader) -> Verb:
        """Forget a method with its binding rules."""
        name = request.segments["id"]
        _existing(reader, _METHOD + name, "auth method")
        bound = [each["ID"] for each in _listed(reader, _RULE) if each.get("AuthMethod") == name]
        return self._delete(request, _METHOD + name, *(_RULE + id_ for id_ in bound))

    # --- binding rules

    def rules(self, request: Request, reader: Reader) -> Verb:
        """All binding rules, or those of one method."""
        wanted = first(request, "authmethod")
        shown = [each for each in _listed(reader, _RULE) if wanted in ("", each.get("AuthMethod"))]
        return json_reply(reader, read_options(request, self._site), shown)

    def get_rule(self, request: Request, reader: Reader) -> Verb:
        """One binding rule."""
        return self._get(request, reader, _RULE, "binding rule")

    def create_rule(self, request: Request, reader: Reader) -> Verb:
        """A new binding rule of a method that there is."""
        value = _decoded(request)
        if Body(value, None).text("ID"):
            raise bad("Cannot specify the ID when creating a new binding rule")
        return self._put_rule(request, reader, value, self._identifiers.new(request, reader))

    def put_rule(self, request: Request, reader: Reader) -> Verb:
        """Another form of a binding rule; its method stays."""
        value, id_ = _decoded(request), request.segments["id"]
        before = _existing(reader, _RULE + id_, "binding rule")
        if Body(value, None).text("AuthMethod") not in ("", before["AuthMethod"]):
            raise bad("the AuthMethod field of an Binding Rule is immutable")
        return self._put_rule(request, reader, {**value, "AuthMethod": before["AuthMethod"]}, id_)

    def _put_rule(self, request: Request, reader: Reader, value: Mapping[str, Any], id_: str) -> Submit:
        body = Body(value, None)
        method = body.text("AuthMethod")
        if _stored(reader, _METHOD + method) is None:
            raise bad(f'Invalid Binding Rule: no auth method "{method[:128]}"')
        if body.text("BindType") not in _BIND_TYPES:
            raise bad(f'Invalid Binding Rule: unknown BindType "{body.text("BindType")[:128]}"')
        if not body.text("BindName"):
            raise bad("Invalid Binding Rule: no BindName is set")
        return self._put(request, _RULE + id_, {**value, "ID": id_})

    def delete_rule(self, request: Request, reader: Reader) -> Verb:
        """Forget a binding rule."""
        _existing(reader, _RULE + request.segments["id"], "binding rule")
        return self._delete(request, _RULE + request.segments["id"])

    # --- what both have alike

    def _get(self, request: Request, reader: Reader, prefix: str, what: str) -> Verb:
        reader.require(Resource.OPERATOR, Level.READ, "")
        found = _stored(reader, prefix + request.segments["id"])
        if found is None:
            return text(404, f"Requested {what} does not exist: ACL not found")
        return json_reply(reader, read_options(request, self._site), found)

    def _put(self, request: Request, name: str, value: Mapping[str, Any]) -> Submit:
        key = key_bytes(name)
        content = {field: given for field, given in value.items() if field not in _OURS}
        options = read_options(request, self._site)

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            _raise(outcomes)
            return json_reply(reader, options, _stored(reader, name))

        return Submit((Transact(space=SPACE, transaction=Transaction(success=(Put(key, encode(content)),))),), render)

    def _delete(self, request: Request, *names: str) -> Submit:
        operations: tuple[Operation, ...] = tuple(Delete(key_bytes(name)) for name in names)
        options = read_options(request, self._site)

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            _raise(outcomes)
            return json_reply(reader, options, True)

        return Submit((Transact(space=SPACE, transaction=Transaction(success=operations)),), render)


def _raise(outcomes: Sequence[Outcome | TownhallError]) -> None:
    outcome = outcomes[0]
    if isinstance(outcome, TownhallError):
        raise outcome


def _decoded(request: Request) -> dict[str, Any]:
    value = decode_body(request)
    if not isinstance(value, dict):
        raise bad("Request decode failed: not an object")
    return value


def _shown(kv: KeyValue) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(kv.value, type=dict[str, Any])
    except msgspec.MsgspecError:
        content = {}  # Somebody wrote it into the space by other means.
    return {**content, "CreateIndex": kv.create_revision, "ModifyIndex": kv.mod_revision}


def _stored(reader: Reader, name: str) -> dict[str, Any] | None:
    kv = reader.get(SPACE, key_bytes(name))
    return None if kv is None else _shown(kv)


def _listed(reader: Reader, prefix: str) -> list[dict[str, Any]]:
    reader.require(Resource.OPERATOR, Level.READ, "")
    return [_shown(kv) for kv in reader.range(SPACE, *prefix_span(key_bytes(prefix))).kvs]


def _existing(reader: Reader, name: str, what: str) -> dict[str, Any]:
    reader.require(Resource.OPERATOR, Level.WRITE, "")
    found = _stored(reader, name)
    if found is None:
        raise bad(f"Requested {what} does not exist: ACL not found", 404)
    return found
