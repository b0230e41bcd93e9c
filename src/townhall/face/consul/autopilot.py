"""The autopilot's configuration: kept for the tools that write and read it back. There are no servers to steer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from townhall.core import Outcome
from townhall.core.commands import Transact, TransactResult
from townhall.core.queries import Reader
from townhall.face import Reply, Request, Submit, Verb
from townhall.face.consul.blocking import encode, json_reply
from townhall.face.consul.bodies import Body
from townhall.face.consul.kv import uint
from townhall.face.consul.requests import decode_body, first, flag, read_options
from townhall.face.consul.site import Site
from townhall.model.access import Level, Resource
from townhall.model.errors import TownhallError
from townhall.model.keys import Compare, CompareTarget, Put, Relation, Transaction

__all__ = ["SPACE", "Autopilot"]

SPACE = "consul.operator"
_KEY = b"autopilot"
_DEFAULTS: dict[str, Any] = {
    "CleanupDeadServers": True, "LastContactThreshold": "200ms", "MaxTrailingLogs": 250, "MinQuorum": 0,
    "ServerStabilizationTime": "10s", "RedundancyZoneTag": "", "DisableUpgradeMigration": False,
    "UpgradeVersionTag": "",
}  # fmt: skip


class Autopilot:
    """Handlers of the configuration."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def get(self, request: Request, reader: Reader) -> Verb:
        """As it was put, or Consul's defaults."""
        reader.require(Resource.OPERATOR, Level.READ, "")
        return json_reply(reader, read_options(request, self._site), _present(reader))

    def put(self, request: Request, reader: Reader) -> Verb:
        """Replace it; with ``cas`` only if it is as it was then, answering whether it was."""
        reader.require(Resource.OPERATOR, Level.WRITE, "")
        options = read_options(request, self._site)
        body = Body(decode_body(request), None)
        content = {name: _given(body, name, default) for name, default in _DEFAULTS.items()}
        compares: tuple[Compare, ...] = ()
        if flag(request, "cas"):
            index = min(uint(first(request, "cas"), "cas"), 2**63 - 1)
            kv = reader.get(SPACE, _KEY)
            # Before anybody put it, it is shown with index 1.
            expected = 0 if kv is None and index == 1 else index
            compares = (Compare(_KEY, CompareTarget.MOD, Relation.EQUAL, expected),)

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            outcome = outcomes[0]
            if isinstance(outcome, TownhallError):
                raise outcome
            assert isinstance(outcome.result, TransactResult)
            return json_reply(reader, options, outcome.result.succeeded)

        put = Put(_KEY, encode(content))
        return Submit((Transact(space=SPACE, transaction=Transaction(compares, (put,))),), render)


def _given(body: Body, name: str, default: object) -> object:
    if not body.has(name):
        return default
    if isinstance(default, bool):
        return body.flag(name)
    return body.integer(name) if isinstance(default, int) else body.text(name)


def _present(reader: Reader) -> dict[str, Any]:
    kv = reader.get(SPACE, _KEY)
    if kv is None:
        return {**_DEFAULTS, "CreateIndex": 1, "ModifyIndex": 1}
    try:
        content = msgspec.json.decode(kv.value, type=dict[str, Any])
    except msgspec.MsgspecError:
        content = _DEFAULTS  # Somebody wrote it into the space by other means.
    return {**content, "CreateIndex": kv.create_revision, "ModifyIndex": kv.mod_revision}
