"""``/v1/session``: sessions, which hold keys as locks.

A session's TTL is a lease's, so it lives in the hub's memory and a renewal costs no commit. Its indexes are positions of
the journal. A session ends with its node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from townhall.core import Outcome
from townhall.core.commands import CloseSession, OpenSession
from townhall.core.queries import Reader
from townhall.core.state import Session
from townhall.face import Reply, Request, Route, Submit, Verb
from townhall.face.consul.blocking import Read, answer, encode, json_reply
from townhall.face.consul.bodies import Body
from townhall.face.consul.durations import go_duration, parse_duration
from townhall.face.consul.errors import bad, text
from townhall.face.consul.requests import decode_body, read_options, required
from townhall.face.consul.site import Site, Sited
from townhall.model import limits
from townhall.model.access import Level, Resource
from townhall.model.check import CheckStatus
from townhall.model.errors import InvalidField, NotFound, TownhallError
from townhall.model.lease import SessionBehavior

__all__ = ["Sessions", "routes", "session_object"]

_TTL_MIN_MS = 10_000
_TTL_MAX_MS = 86_400_000
_LOCK_DELAY_DEFAULT_MS = 15_000
_SECONDS_BELOW = 1_000
"""A lock delay given as a number below this is meant in seconds, not in nanoseconds."""
_NS_PER_MS = 1_000_000
_SERF = "serfHealth"
_TTL, _NODE_CHECKS, _SERVICE_CHECKS = "consul.ttl", "consul.node_checks", "consul.service_checks"


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    sessions = Sessions(face.site)
    return (
        Route("PUT", "/v1/session/create", sessions.create),
        Route("PUT", "/v1/session/destroy/{id...}", sessions.destroy),
        Route("PUT", "/v1/session/renew/{id...}", sessions.renew),
        Route("GET", "/v1/session/info/{id...}", sessions.info),
        Route("GET", "/v1/session/node/{node...}", sessions.of_node),
        Route("GET", "/v1/session/list", sessions.all),
    )


def session_object(session: Session) -> dict[str, object]:
    """A session as Consul shows it."""
    data = session.data
    return {
        "ID": session.id, "Name": session.name, "Node": session.node, "LockDelay": session.lock_delay_ms * _NS_PER_MS,
        "Behavior": session.behavior.value, "TTL": data.get(_TTL, ""), "NodeChecks": _stored(data, _NODE_CHECKS),
        "ServiceChecks": _stored(data, _SERVICE_CHECKS), "CreateIndex": session.created_revision + 1,
        "ModifyIndex": session.created_revision + 1,
    }  # fmt: skip


def _stored(data: Mapping[str, str], name: str) -> Any:
    return msgspec.json.decode(data[name]) if name in data else None


class Sessions:
    """Handlers of sessions."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def create(self, request: Request, reader: Reader) -> Verb:
        """Open a session on a node that exists and whose checks are not critical."""
        options = read_options(request, self._site)
        body = Body(decode_body(request) if request.body.strip() else {}, None)
        command = _command(body, self._site)
        self._guard_health(reader, command)
        checks = dict.fromkeys(_checks(command))
        if command.node == self._site.node and (command.node, _SERF) not in reader.state.checks:
            checks.pop(_SERF, None)  # The server vouches for itself: while it answers, that check passes.
        command = msgspec.structs.replace(command, checks=tuple(checks))

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            outcome = outcomes[0]
            if isinstance(outcome, TownhallError):
                self._guard_health(reader, command)  # A check that went or failed since is told of in Consul's words.
                raise outcome
            return json_reply(reader, options, {"ID": outcome.result})

        return Submit((command,), render)

    def _guard_health(self, reader: Reader, command: OpenSession) -> None:
        node = command.node
        own = node == self._site.node
        known = {check.id: check.status for check in reader.checks_of_node(node)}
        if own:
            known.setdefault(_SERF, CheckStatus.PASSING)
        elif not _exists(reader, node):
            raise bad("apply failed: Missing node registration")
        for check_id in _checks(command):
            if check_id not in known:
                raise bad(f"apply failed: Missing check '{check_id}' registration")
            if known[check_id] is CheckStatus.CRITICAL:
                raise bad(f"apply failed: Check '{check_id}' is in critical state")

    def destroy(self, request: Request, reader: Reader) -> Verb:
        """Close a session; one that is gone already is as good."""
        options = read_options(request, self._site)
        session_id = required(request, "id", "Missing session")

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            outcome = outcomes[0]
            if isinstance(outcome, TownhallError) and not isinstance(outcome, NotFound):
                raise outcome
            return json_reply(reader, options, True)

        return Submit((CloseSession(id=session_id),), render)

    def renew(self, request: Request, reader: Reader) -> Verb:
        """Extend the deadline of a session with a TTL."""
        options = read_options(request, self._site)
        session_id = required(request, "id", "Missing session")
        session = _find(reader, session_id)
        if session is not None:
            reader.require(Resource.SESSION, Level.WRITE, session.node)
        if session is None or (session.lease and request.live.renew((session.lease,))):
            return text(404, f"Session id '{session_id}' not found")
        return json_reply(reader, options, [session_object(session)])

    def info(self, request: Request, reader: Reader) -> Verb:
        """One session, in a list that is empty when there is none."""
        session_id = required(request, "id", "Missing session")

        def found(reader: Reader) -> Sequence[Session]:
            session = _find(reader, session_id)
            return () if session is None else (session,)

        return self._answer(request, reader, found)

    def of_node(self, request: Request, reader: Reader) -> Verb:
        """The sessions of one node."""
        node = required(request, "node", "Missing node name")
        return self._answer(
            request, reader, lambda reader: [session for session in reader.sessions() if session.node == node]
        )

    def all(self, request: Request, reader: Reader) -> Verb:
        """All sessions."""
        return self._answer(request, reader, lambda reader: reader.sessions())

    def _answer(self, request: Request, reader: Reader, found: Callable[[Reader], Sequence[Session]]) -> Verb:
        read = Read(
            (("sessions", ""),),
            lambda reader: reader.sessions_revision() + 1,
            lambda reader: encode([session_object(session) for session in found(reader)]),
        )
        return answer(request, reader, read_options(request, self._site), read)


def _find(reader: Reader, session_id: str) -> Session | None:
    try:
        return reader.session(session_id)
    except NotFound:
        return None


def _checks(command: OpenSession) -> list[str]:
    """The ids of the checks that a session names."""
    services = _stored(command.data, _SERVICE_CHECKS) or []
    return [*(_stored(command.data, _NODE_CHECKS) or []), *(check["ID"] for check in services if check.get("ID"))]


def _exists(reader: Reader, node: str) -> bool:
    try:
        return reader.node(node) is not None
    except NotFound:
        return False


# --- what a body asks for


def _command(body: Body, site: Site) -> OpenSession:
    ttl = body.text("TTL")
    node = body.text("Node") or site.node
    data = {_TTL: ttl} if ttl else {}
    checks = body.texts("NodeChecks") if body.has("NodeChecks") else body.texts("Checks") or [_SERF]
    data[_NODE_CHECKS] = msgspec.json.encode(checks).decode()
    if body.has("ServiceChecks"):
        data[_SERVICE_CHECKS] = msgspec.json.encode(
            [
                {"ID": check.text("ID"), "Namespace": check.text("Namespace")}
                for check in body.children("ServiceChecks", None)
            ]
        ).decode()
    return OpenSession(
        name=body.text("Name"), node=node, ttl_ms=_ttl_ms(ttl), behavior=_behavior(body.text("Behavior")),
        lock_delay_ms=_lock_delay_ms(body), data=data,
    )  # fmt: skip


def _behavior(text: str) -> SessionBehavior:
    try:
        return SessionBehavior(text or "release")
    except ValueError:
        raise bad(f"Invalid Behavior setting '{text[:64]}'") from None


def _ttl_ms(ttl: str) -> int:
    if not ttl:
        return 0
    try:
        ttl_ms = parse_duration(ttl)
    except ValueError as error:
        raise bad(f"Session TTL '{ttl[:64]}' invalid: {error}") from None
    if ttl_ms and not _TTL_MIN_MS <= ttl_ms <= _TTL_MAX_MS:
        bounds = f"{go_duration(_TTL_MIN_MS)}={go_duration(_TTL_MAX_MS)}"
        raise bad(f"Invalid Session TTL '{ttl_ms * _NS_PER_MS}', must be between [{bounds}]")
    return ttl_ms


def _lock_delay_ms(body: Body) -> int:
    """Consul cuts what is too long rather than refusing it."""
    value = body.raw("LockDelay")
    if value is None or value == "":
        return _LOCK_DELAY_DEFAULT_MS
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _SECONDS_BELOW:
        delay_ms = int(value * 1_000)
    else:
        delay_ms = body.duration_ms("LockDelay")
    if delay_ms < 0:
        raise InvalidField("LockDelay", "must not be negative")
    return min(delay_ms, limits.SESSION_LOCK_DELAY_MAX_MS)
