"""``/v1/agent``: what the one agent, which this registry plays for every client, has registered and how it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from townhall.core import Command, Interest, Outcome
from townhall.core.commands import DeleteCheck, Deregister, PutCheck, Register, SetMaintenance
from townhall.core.queries import Reader
from townhall.face import Headers, Park, Reply, Request, Route, Submit, Verb
from townhall.face.consul import filter as bexpr
from townhall.face.consul.blocking import encode, json_reply, policy, pretty, wait_with_jitter
from townhall.face.consul.bodies import Body
from townhall.face.consul.checks import service_checks
from townhall.face.consul.errors import bad
from townhall.face.consul.picture import Picture
from townhall.face.consul.requests import (
    ReadOptions,
    boolean,
    check_datacenter,
    decode_body,
    first,
    flag,
    read_options,
)
from townhall.face.consul.services import AGENT_SERVICE, Placed, register_command, sidecar
from townhall.face.consul.shapes import NODE_MAINTENANCE, agent_service, check_object, service_id
from townhall.model.check import Check, CheckStatus
from townhall.model.errors import NotFound, TownhallError
from townhall.model.instance import DEFAULT_NAMESPACE, Instance

__all__ = ["AgentServices", "done"]

_NO_SERVICE = 'Unknown service ID "{}". Ensure that the service ID is passed, not the service name.'
_SERVICE_REASON = "Maintenance mode is enabled for this service, but no reason was provided. This is a default message."
_NODE_REASON = "Maintenance mode is enabled for this node, but no reason was provided. This is a default message."
_HEALTH_STATUS = {"passing": 200, "warning": 429, "critical": 503, "maintenance": 503}
_WORSE = ("maintenance", "critical", "warning", "passing")


def done(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
    """An empty answer when everything was accepted; what is gone already is as good as removed."""
    for outcome in outcomes:
        if isinstance(outcome, TownhallError) and not isinstance(outcome, NotFound):
            raise outcome
    return Reply(200, b"", (policy(reader),))


class AgentServices:
    """Handlers about the services of the agent."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.site = picture.site

    def routes(self) -> Sequence[Route]:
        """The rows of the table."""
        return (
            Route("GET", "/v1/agent/services", self.services),
            Route("GET", "/v1/agent/service/{id...}", self.service),
            Route("PUT", "/v1/agent/service/register", self.register),
            Route("PUT", "/v1/agent/service/deregister/{id...}", self.deregister),
            Route("PUT", "/v1/agent/service/maintenance/{id...}", self.maintenance),
            Route("PUT", "/v1/agent/maintenance", self.node_maintenance),
            Route("GET", "/v1/agent/health/service/id/{id...}", self.health_by_id),
            Route("GET", "/v1/agent/health/service/name/{name...}", self.health_by_name),
        )

    # --- reading

    def services(self, request: Request, reader: Reader) -> Verb:
        """All services of the agent by id, those that other protocols registered included."""
        options = read_options(request, self.site)
        passes = bexpr.predicate(options.filter, bexpr.AGENT_SERVICE)
        shown = {}
        for instance in self.picture.on_node(reader, self.site.node):
            row = agent_service(instance, self.site)
            if passes is None or passes(bexpr.decode(encode(row))):
                shown[service_id(instance, self.site)] = row
        return json_reply(reader, options, shown)

    def service(self, request: Request, reader: Reader) -> Verb:
        """One service; ``?hash=`` waits until it looks different."""
        wanted = request.segments.get("id", "")
        options = read_options(request, self.site)
        found = self._shown(reader, wanted)
        if found is None:
            raise bad(f"unknown service ID: {wanted}", 404)
        if not options.hash or options.hash != found[0]:
            return self._service_reply(reader, options, found)

        def attempt(reader: Reader, expired: bool) -> Reply | None:
            now = self._shown(reader, wanted)
            if now is None:
                raise bad(f"unknown service ID: {wanted}", 404)
            if now[0] == options.hash and not expired:
                return None
            return self._service_reply(reader, options, now)

        interests: Sequence[Interest] = (found[2].key, ("node", self.site.node), ("services", DEFAULT_NAMESPACE))
        return Park(interests, attempt, wait_with_jitter(request, options.wait_ms))

    def _shown(self, reader: Reader, wanted: str) -> tuple[str, bytes, Instance] | None:
        instance = self.picture.find_shown(reader, wanted)
        if instance is None:
            return None
        body = encode(agent_service(instance, self.site))
        digest = hashlib.sha256(body).hexdigest()[:16]
        return digest, b'%b,"ContentHash":"%b"}' % (body[:-1], digest.encode()), instance

    def _service_reply(self, reader: Reader, options: ReadOptions, found: tuple[str, bytes, Instance]) -> Reply:
        headers: Headers = ((b"X-Consul-ContentHash", found[0].encode()), policy(reader))
        return Reply(200, pretty(found[1], wanted=options.pretty), headers)

    # --- writing

    def register(self, request: Request, reader: Reader) -> Verb:
        """Register a service with its checks, in one commit."""
        check_datacenter(request, self.site)
        body = Body(decode_body(request), AGENT_SERVICE)
        name = body.text("Name")
        if not name:
            raise bad("Missing service name")
        service = body.text("ID") or name
        placed = Placed(self.site, node=self.site.node, address=self.site.address, origin=request.peer)
        checks = service_checks(body, self.site, service=service, name=name)
        command = register_command(body, name, service, placed, checks)
        commands: list[Command] = [command]
        before = self.picture.find(reader, self.site.node, service)
        if before is not None:
            if before.key != command.key:
                commands.append(Deregister(key=before.key, id=before.id))
            elif flag(request, "replace-existing-checks"):
                kept = {check.id for check in checks}
                found = reader.checks_of_instance(before.key, before.id)
                commands += [DeleteCheck(node=check.node, id=check.id) for check in found if check.id not in kept]
        if body.has("Connect"):
            taken = frozenset(one.port for one in reader.node_instances(self.site.node))
            beside = self._sidecar(reader, body, command, service, placed, taken)
            if beside is not None:
                commands.append(beside)
        return Submit(commands, done)

    def _sidecar(
        self, reader: Reader, body: Body, command: Register, service: str, placed: Placed, taken: frozenset[int]
    ) -> Register | None:
        before = self.picture.find(reader, self.site.node, f"{service}-sidecar-proxy")
        # The same port again when it is registered again.
        return sidecar(body, command, service, placed, taken - {before.port} if before is not None else taken)

    def _existing(self, request: Request, reader: Reader) -> Instance:
        wanted = request.segments.get("id", "")
        found = self.picture.find_shown(reader, wanted) if wanted else None
        if found is None:
            raise bad(_NO_SERVICE.format(wanted), 404)
        return found

    def deregister(self, request: Request, reader: Reader) -> Verb:
        """Remove a service with its checks, and its sidecar proxy."""
        check_datacenter(request, self.site)
        found = self._existing(request, reader)
        commands = [Deregister(key=found.key, id=found.id)]
        proxy = self.picture.find(reader, self.site.node, f"{found.id}-sidecar-proxy")
        if proxy is not None:
            commands.append(Deregister(key=proxy.key, id=proxy.id))
        return Submit(commands, done)

    def maintenance(self, request: Request, reader: Reader) -> Verb:
        """Put a service into maintenance or take it out."""
        check_datacenter(request, self.site)
        wanted = _enable(request)
        found = self._existing(request, reader)
        reason = (first(request, "reason") or _SERVICE_REASON) if wanted else None
        return Submit((SetMaintenance(key=found.key, id=found.id, reason=reason),), done)

    def node_maintenance(self, request: Request, reader: Reader) -> Verb:
        """Put the whole node into maintenance or take it out."""
        check_datacenter(request, self.site)
        if not _enable(request):
            return Submit((DeleteCheck(node=self.site.node, id=NODE_MAINTENANCE),), done)
        check = PutCheck(
            node=self.site.node, id=NODE_MAINTENANCE, name="Node Maintenance Mode", status=CheckStatus.CRITICAL,
            notes=first(request, "reason") or _NODE_REASON,
        )  # fmt: skip
        return Submit((check,), done)

    # --- health of one's own services

    def health_by_id(self, request: Request, reader: Reader) -> Verb:
        """The aggregated health of one service, in the status too."""
        options = read_options(request, self.site)
        wanted = request.segments.get("id", "")
        instance = self.picture.find_shown(reader, wanted)
        if instance is None:
            shown: object = {"AggregatedStatus": "critical", "Service": None, "Checks": None}
            return _health_reply(request, reader, options, "critical", shown, missing=f"ServiceId {wanted} not found")
        status, shown = self._health(reader, instance)
        return _health_reply(request, reader, options, status, shown)

    def health_by_name(self, request: Request, reader: Reader) -> Verb:
        """The health of all of the agent's instances of a service; the worst is in the status."""
        options = read_options(request, self.site)
        wanted = request.segments.get("name", "")
        found = [
            self._health(reader, instance)
            for instance in self.picture.instances(reader, wanted)
            if instance.node in ("", self.site.node) and instance is not self.picture.own_service
        ]
        if not found:
            reason = f"ServiceName {wanted} Not Found"
            return _health_reply(request, reader, options, "critical", [], missing=reason)
        worst = min((status for status, _ in found), key=_WORSE.index)
        return _health_reply(request, reader, options, worst, [shown for _, shown in found])

    def _health(self, reader: Reader, instance: Instance) -> tuple[str, object]:
        checks = [check for check in self.picture.checks_for(reader, instance) if check.id != "serfHealth"]
        status = aggregated(checks)
        rows = [check_object(check, instance if check.key else None, self.site, local=True) for check in checks]
        return status, {"AggregatedStatus": status, "Service": agent_service(instance, self.site), "Checks": rows}


def aggregated(checks: Sequence[Check]) -> str:
    """The one word for several checks."""
    if any(check.id == NODE_MAINTENANCE or check.id.startswith("_service_maintenance:") for check in checks):
        return "maintenance"
    present = {check.status.value for check in checks}
    return next(status for status in _WORSE if status in present or status == "passing")


def _enable(request: Request) -> bool:
    text = first(request, "enable")
    if not text:
        raise bad("Missing value for enable")
    wanted = boolean(text)
    if wanted is None:
        raise bad(f'Invalid value for enable: "{text}"')
    return wanted


def _health_reply(
    request: Request, reader: Reader, options: ReadOptions, status: str, shown: object, *, missing: str = ""
) -> Reply:
    number = 404 if missing else _HEALTH_STATUS[status]
    reason = "".join(each if each.isprintable() and each.isascii() else "?" for each in missing or status)
    headers: Headers = ((b"X-Consul-Reason", reason.encode()), policy(reader))
    if first(request, "format") == "text" or request.headers.get("accept", "").startswith("text/plain"):
        return Reply(number, status.encode(), headers, b"text/plain")
    return Reply(number, pretty(encode(shown), wanted=options.pretty), headers)
