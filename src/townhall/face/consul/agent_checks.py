"""``/v1/agent/check`` and ``/v1/agent/checks``: what the agent's checks are, and what processes say through them."""

from __future__ import annotations

from collections.abc import Sequence

from townhall.core.commands import DeleteCheck, PutCheck, SetCheck
from townhall.core.queries import Reader
from townhall.face import Reply, Request, Route, Submit, Verb
from townhall.face.consul import filter as bexpr
from townhall.face.consul.agent import done
from townhall.face.consul.blocking import encode, json_reply, policy
from townhall.face.consul.bodies import Body, names
from townhall.face.consul.checks import AGENT_CHECK, agent_definition, status_of
from townhall.face.consul.errors import bad
from townhall.face.consul.picture import Picture
from townhall.face.consul.requests import check_datacenter, decode_body, first, read_options
from townhall.face.consul.shapes import check_object
from townhall.model import limits
from townhall.model.access import Level, Resource
from townhall.model.check import Check, CheckKind, CheckStatus
from townhall.model.errors import NotFound
from townhall.model.instance import ServiceKey

__all__ = ["AgentChecks"]

_NO_CHECK = 'Unknown check ID "{}". Ensure that the check ID is passed, not the check name.'
_UPDATE = names("Status", "Output")


class AgentChecks:
    """Handlers about the checks of the agent."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.site = picture.site

    def routes(self) -> Sequence[Route]:
        """The rows of the table."""
        return (
            Route("GET", "/v1/agent/checks", self.checks),
            Route("PUT", "/v1/agent/check/register", self.register),
            Route("PUT", "/v1/agent/check/deregister/{id...}", self.deregister),
            Route("PUT", "/v1/agent/check/pass/{id...}", self.passes),
            Route("PUT", "/v1/agent/check/warn/{id...}", self.warns),
            Route("PUT", "/v1/agent/check/fail/{id...}", self.fails),
            Route("PUT", "/v1/agent/check/update/{id...}", self.update),
        )

    def checks(self, request: Request, reader: Reader) -> Verb:
        """All checks of the agent by id."""
        options = read_options(request, self.site)
        passes = bexpr.predicate(options.filter, bexpr.CHECK)
        shown = {}
        for check, instance in self.picture.all_on_node(reader, self.site.node):
            if check.id == "serfHealth":
                continue
            row = check_object(check, instance, self.site, local=True)
            if passes is None or passes(bexpr.decode(encode(row))):
                shown[check.id] = row
        return json_reply(reader, options, shown)

    def register(self, request: Request, reader: Reader) -> Verb:
        """Add a check to the node or to one of its services, or replace it."""
        check_datacenter(request, self.site)
        body = Body(decode_body(request), AGENT_CHECK)
        name = body.text("Name")
        if not name:
            raise bad("Missing check name")
        status = status_of(body.text("Status"), "Bad check status")
        definition = agent_definition(body, self.site)
        key: ServiceKey | None = None
        instance_id, service = "", body.text("ServiceID")
        if service:
            instance = self.picture.find_shown(reader, service)
            if instance is None:
                raise bad(f'ServiceID "{service}" does not exist', 404)
            key, instance_id = instance.key, instance.id
        check = PutCheck(
            node=self.site.node, id=body.text("ID") or body.text("CheckID") or name, name=name, status=status,
            notes=body.text("Notes"), key=key, instance=instance_id, definition=definition,
        )  # fmt: skip
        return Submit((check,), done)

    def _existing(self, request: Request, reader: Reader) -> Check:
        wanted = request.segments.get("id", "")
        try:
            return reader.check(self.site.node, wanted)
        except NotFound:
            raise bad(_NO_CHECK.format(wanted), 404) from None

    def deregister(self, request: Request, reader: Reader) -> Verb:
        """Remove a check."""
        check_datacenter(request, self.site)
        found = self._existing(request, reader)
        return Submit((DeleteCheck(node=found.node, id=found.id),), done)

    def passes(self, request: Request, reader: Reader) -> Verb:
        """The process is well."""
        return self._said(request, reader, CheckStatus.PASSING, first(request, "note"))

    def warns(self, request: Request, reader: Reader) -> Verb:
        """The process has a complaint, but may be called."""
        return self._said(request, reader, CheckStatus.WARNING, first(request, "note"))

    def fails(self, request: Request, reader: Reader) -> Verb:
        """The process is not to be called."""
        return self._said(request, reader, CheckStatus.CRITICAL, first(request, "note"))

    def update(self, request: Request, reader: Reader) -> Verb:
        """Status and output in one."""
        body = Body(decode_body(request), _UPDATE)
        text = body.text("Status")
        status = status_of(text or "-", f"Invalid check status: '{text[:64]}'")
        assert status is not None
        return self._said(request, reader, status, body.text("Output"))

    def _said(self, request: Request, reader: Reader, status: CheckStatus, output: str) -> Verb:
        if request.query:
            check_datacenter(request, self.site)
        check = self._existing(request, reader)
        if check.definition.kind is not CheckKind.TTL:
            raise bad(f'CheckID "{check.id}" does not have associated TTL')
        if check.status is status and check.output == _cut(output):
            # A sign of life that says nothing new: no commit, so the right to give it is looked at here.
            if check.key is None:
                reader.require(Resource.NODE, Level.WRITE, check.node)
            else:
                reader.require_service(Level.WRITE, check.key)
            request.live.check_heartbeat(check.node, check.id)
            return Reply(200, b"", (policy(reader),))
        return Submit((SetCheck(node=check.node, id=check.id, status=status, output=output),), done)


def _cut(output: str) -> str:
    return output if len(output) < limits.CHECK_OUTPUT_SIZE_MAX // 4 else output[: limits.CHECK_OUTPUT_SIZE_MAX]
