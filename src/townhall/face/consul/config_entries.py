"""``/v1/config``: configuration entries, kept and listed as they came. They steer a mesh, which is not here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from townhall.core import KeyRange, Outcome
from townhall.core.commands import Transact, TransactResult
from townhall.core.queries import Reader
from townhall.face import Reply, Request, Route, Submit, Verb
from townhall.face.consul.blocking import Read, answer, encode, json_reply
from townhall.face.consul.bodies import Body
from townhall.face.consul.errors import PLAIN_TEXT, bad
from townhall.face.consul.kv import uint
from townhall.face.consul.kv_shapes import key_bytes, prefix_span
from townhall.face.consul.requests import decode_body, first, flag, read_options
from townhall.face.consul.site import Site, Sited
from townhall.model.errors import TownhallError
from townhall.model.keys import Compare, CompareTarget, Delete, KeyValue, Put, Relation, Transaction

__all__ = ["SPACE", "ConfigEntries", "routes"]

SPACE = "consul.config"
_KINDS = frozenset({
    "api-gateway", "bound-api-gateway", "control-plane-request-limit", "exported-services", "file-system-certificate",
    "http-route", "ingress-gateway", "inline-certificate", "jwt-provider", "mesh", "proxy-defaults", "rate-limit",
    "sameness-group", "service-defaults", "service-intentions", "service-resolver", "service-router",
    "service-splitter", "tcp-route", "terminating-gateway",
})  # fmt: skip
_FIXED_NAMES = {"mesh": "mesh", "proxy-defaults": "global"}
_SHOWN: Mapping[str, Mapping[str, object]] = {
    "service-defaults": {"TransparentProxy": {}, "MeshGateway": {}, "Expose": {}},
    "proxy-defaults": {"TransparentProxy": {}, "MeshGateway": {}, "Expose": {}, "AccessLogs": {}},
}
"""What the real one adds to entries of a kind that leave it out."""
_OURS = frozenset({"kind", "name", "createindex", "modifyindex", "hash"})


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    entries = ConfigEntries(face.site)
    return (
        Route("PUT", "/v1/config", entries.put),
        Route("GET", "/v1/config/{kind}", entries.listing),
        Route("GET", "/v1/config/{kind}/{name...}", entries.get),
        Route("DELETE", "/v1/config/{kind}/{name...}", entries.delete),
    )


class ConfigEntries:
    """Handlers of configuration entries."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def put(self, request: Request, reader: Reader) -> Verb:
        """Keep an entry, perhaps only if it is as it was at ``cas``."""
        options = read_options(request, self._site)
        value = decode_body(request, "Request decoding failed")
        body = Body(value, None, "Request decoding failed")
        kind = body.text("Kind")
        if kind not in _KINDS:
            raise bad(f"Request decoding failed: invalid config entry kind: {kind[:128]}")
        name = body.text("Name") or _FIXED_NAMES.get(kind, "")
        if not name:
            raise bad("Name is required")
        key = _key(kind, name)
        content = {field: given for field, given in value.items() if field.replace("_", "").lower() not in _OURS}
        compares = _unchanged(request, key)

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            return json_reply(reader, options, _succeeded(outcomes[0]))

        put = Put(key, encode({"Kind": kind, "Name": name, **content}))
        return Submit((Transact(space=SPACE, transaction=Transaction(compares, (put,))),), render)

    def listing(self, request: Request, reader: Reader) -> Verb:
        """The entries of a kind, by name."""
        kind = _kind(request)
        span = prefix_span(key_bytes(f"{kind}/"))
        read = Read(
            (KeyRange(SPACE, *span),),
            lambda reader: reader.space_revision(SPACE),
            lambda reader: encode([_entry(kv) for kv in reader.range(SPACE, *span).kvs]),
        )
        return answer(request, reader, read_options(request, self._site), read)

    def get(self, request: Request, reader: Reader) -> Verb:
        """One entry."""
        kind, name = _kind(request), request.segments["name"]
        key = _key(kind, name)

        def render(reader: Reader) -> bytes | Reply:
            kv = reader.get(SPACE, key)
            if kv is None:
                what = f'Config entry not found for "{kind}" / "{name}"'
                return Reply(404, what.encode("utf-8", "backslashreplace"), (), PLAIN_TEXT)
            return encode(_entry(kv))

        read = Read((KeyRange(SPACE, key),), lambda reader: reader.space_revision(SPACE), render)
        return answer(request, reader, read_options(request, self._site), read)

    def delete(self, request: Request, reader: Reader) -> Verb:
        """Forget an entry; with ``cas`` the answer says whether it was as it was then."""
        options = read_options(request, self._site)
        key = _key(_kind(request), request.segments["name"])
        compares = _unchanged(request, key)

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            succeeded = _succeeded(outcomes[0])
            return json_reply(reader, options, succeeded if compares else {})

        return Submit((Transact(space=SPACE, transaction=Transaction(compares, (Delete(key),))),), render)


def _kind(request: Request) -> str:
    kind = request.segments["kind"]
    if kind not in _KINDS:
        raise bad(f"invalid config entry kind: {kind[:128]}")
    return kind


def _key(kind: str, name: str) -> bytes:
    return key_bytes(f"{kind}/{name}")


def _unchanged(request: Request, key: bytes) -> tuple[Compare, ...]:
    if not flag(request, "cas"):
        return ()
    index = min(uint(first(request, "cas"), "cas"), 2**63 - 1)
    return (Compare(key, CompareTarget.MOD, Relation.EQUAL, index),)


def _succeeded(outcome: Outcome | TownhallError) -> bool:
    if isinstance(outcome, TownhallError):
        raise outcome
    assert isinstance(outcome.result, TransactResult)
    return outcome.result.succeeded


def _entry(kv: KeyValue) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(kv.value, type=dict[str, Any])
    except msgspec.MsgspecError:
        # Somebody wrote it into the space by other means; its name is what can be said of it.
        kind, _, name = kv.key.decode("utf-8", "replace").partition("/")
        content = {"Kind": kind, "Name": name}
    digest = int.from_bytes(hashlib.sha256(kv.value).digest()[:8], "big")
    defaults = _SHOWN.get(content.get("Kind", ""), {})
    return {**content, **{name: given for name, given in defaults.items() if name not in content},
            "Hash": digest, "CreateIndex": kv.create_revision, "ModifyIndex": kv.mod_revision}  # fmt: skip
