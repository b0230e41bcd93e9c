"""One instance: read, patch, remove; maintenance, the operator's override, and drains."""

from __future__ import annotations

from msgspec import UNSET

from townhall.core import Command, Interest, Outcome
from townhall.core.commands import (
    CancelDrain,
    DeleteCheck,
    Deregister,
    PatchInstance,
    SetMaintenance,
    SetOverride,
    StartDrain,
)
from townhall.core.live import Live
from townhall.core.queries import Reader
from townhall.face import Park, Reply, Request, Submit, Verb
from townhall.face.native import outcomes
from townhall.face.native.operations import SCOPE, Operation
from townhall.face.native.registration import health_word
from townhall.face.native.rendering import Rendering, position_header, reply
from townhall.face.native.requests import WAIT, Text, Whole, service_key
from townhall.face.native.shapes import (
    DrainBody,
    DrainView,
    HealthBody,
    InstanceView,
    MaintenanceBody,
    OverrideBody,
    PatchBody,
)
from townhall.model import limits, names
from townhall.model.check import word_name
from townhall.model.errors import NotFound
from townhall.model.instance import Instance, ServiceKey
from townhall.wire.strict_json import Strict

__all__ = ["Instances", "drain_view"]

_PATCH: Strict[PatchBody] = Strict(PatchBody)
_HEALTH: Strict[HealthBody] = Strict(HealthBody)
_MAINTENANCE: Strict[MaintenanceBody] = Strict(MaintenanceBody)
_OVERRIDE: Strict[OverrideBody] = Strict(OverrideBody)
_DRAIN: Strict[DrainBody] = Strict(DrainBody)
_INCARNATION = Whole("incarnation", "Refuse when the instance has another incarnation.")
_CLAIM = Text("claim", "Refuse when another process claimed the instance.", size_max=limits.LABEL_SIZE_MAX)


class Instances:
    """Handlers about one instance, over one ``Rendering``."""

    def __init__(self, rendering: Rendering) -> None:
        self._rendering = rendering

    def operations(self) -> list[Operation]:
        """The rows of the table."""
        one = "/services/{service}/instances/{id}"
        shown = {200: InstanceView}
        drain = {"path": one + "/drain", "tag": "drains"}

        def row(method: str, path: str, handler: object, summary: str, **more: object) -> Operation:
            given = {"parameters": SCOPE, "tag": "instances", "answers": shown, "refusals": (404,), **more}
            return Operation(method=method, path=path, handler=handler, summary=summary, **given)  # type: ignore[arg-type]

        return [
            row("GET", one, self.get, "One instance"),
            row("PATCH", one, self.patch, "Change parts of an instance", body=PatchBody, refusals=(404, 409)),
            row(
                "DELETE", one, self.delete, "Deregister an instance", parameters=(*SCOPE, _INCARNATION, _CLAIM),
                answers={204: None}, refusals=(404, 409),
            ),
            row(
                "PUT", one + "/health", self.tell_health, "Say how an instance is", body=HealthBody, refusals=(404, 409),
                description="What the provider found out about itself, or somebody beside it: `critical` takes the "
                "instance out of use with `output` as the reason, `passing` and `warning` put it back.",
            ),
            row("DELETE", one + "/health", self.forget_health, "Take back what was said of an instance"),
            row("PUT", one + "/maintenance", self.maintain, "Put an instance into maintenance", body=MaintenanceBody),
            row("DELETE", one + "/maintenance", self.unmaintain, "End a maintenance"),
            row("PUT", one + "/override", self.override, "The operator's verdict, above all evidence", body=OverrideBody),
            row("DELETE", one + "/override", self.unoverride, "Take the operator's verdict back"),
            row(
                "POST", summary="Begin to drain an instance", handler=self.drain, body=DrainBody,
                answers={202: DrainView}, refusals=(404, 409), **drain,
            ),
            row(
                "GET", summary="How far a drain is", handler=self.drain_status, parameters=(*SCOPE, WAIT),
                answers={200: DrainView}, description="With `wait`, answered when the drain is complete.", **drain,
            ),
            row("DELETE", summary="Take a drain back", handler=self.cancel_drain, answers={200: DrainView}, **drain),
        ]  # fmt: skip

    def get(self, request: Request, reader: Reader) -> Verb:
        """The instance as it is."""
        key, name = _target(request)
        shown = self._shown(reader, reader.instance(key, name))
        return Reply(200, shown.body, shown.headers, view=request.live.view([key, ("access", "")]))

    def patch(self, request: Request, reader: Reader) -> Verb:
        """Change what the body gives."""
        key, name = _target(request)
        body = _PATCH.decode(request.body)
        command = PatchInstance(
            key=key,
            id=name,
            incarnation=body.incarnation,
            tags=None if body.tags is UNSET else names.tags(body.tags),
            metadata=None if body.metadata is UNSET else _metadata_patch(body.metadata),
            weight=None if body.weight is UNSET else names.weight(body.weight),
            enabled=None if body.enabled is UNSET else body.enabled,
            ready=None if body.ready is UNSET else body.ready,
            zone=None if body.zone is UNSET else names.label(body.zone, "zone", empty=True),
        )
        return self._then_shown(command, key, name)

    def delete(self, request: Request, reader: Reader) -> Verb:
        """Remove it deliberately."""
        key, name = _target(request)
        claim = names.label(_CLAIM.read(request), "claim", empty=True)
        command = Deregister(key=key, id=name, incarnation=_INCARNATION.read(request), claim=claim)
        return outcomes.submit(command, outcomes.done)

    def tell_health(self, request: Request, reader: Reader) -> Verb:
        """What a look at it found."""
        key, name = _target(request)
        body = _HEALTH.decode(request.body)
        return self._then_shown(health_word(key, name, body, incarnation=body.incarnation), key, name)

    def forget_health(self, request: Request, reader: Reader) -> Verb:
        """Nobody looks after it any more."""
        key, name = _target(request)
        node, check = word_name(key, name)
        return self._then_shown(DeleteCheck(node=node, id=check), key, name)

    def maintain(self, request: Request, reader: Reader) -> Verb:
        """Begin a maintenance."""
        key, name = _target(request)
        body = _MAINTENANCE.decode(request.body or b"{}")
        reason = names.text(body.reason, "reason", size_max=limits.REASON_SIZE_MAX)
        return self._then_shown(SetMaintenance(key=key, id=name, reason=reason), key, name)

    def unmaintain(self, request: Request, reader: Reader) -> Verb:
        """End a maintenance."""
        key, name = _target(request)
        return self._then_shown(SetMaintenance(key=key, id=name, reason=None), key, name)

    def override(self, request: Request, reader: Reader) -> Verb:
        """Set the operator's verdict."""
        key, name = _target(request)
        body = _OVERRIDE.decode(request.body)
        reason = names.text(body.reason, "reason", size_max=limits.REASON_SIZE_MAX)
        return self._then_shown(SetOverride(key=key, id=name, verdict=body.verdict, reason=reason), key, name)

    def unoverride(self, request: Request, reader: Reader) -> Verb:
        """Take it back."""
        key, name = _target(request)
        return self._then_shown(SetOverride(key=key, id=name, verdict=None), key, name)

    def drain(self, request: Request, reader: Reader) -> Verb:
        """Begin a drain."""
        key, name = _target(request)
        body = _DRAIN.decode(request.body or b"{}")
        command = StartDrain(key=key, id=name, deadline_ms=body.deadline_ms, incarnation=body.incarnation)
        return outcomes.submit(command, lambda reader, _: _drain(request.live, reader, key, name, status=202))

    def drain_status(self, request: Request, reader: Reader) -> Verb:
        """How far it is, now or once it is complete."""
        key, name = _target(request)
        instance = reader.instance(key, name)
        live = request.live
        wait_ms = WAIT.read(request)
        if instance.evidence.draining_at:
            wait_ms = min(wait_ms, max(0, instance.evidence.drain_deadline - live.now_ms()))

        def attempt(reader: Reader, expired: bool) -> Reply | None:
            try:
                view = drain_view(live, key, reader.instance(key, name))
            except NotFound:
                view = _nothing(key, name)
            return reply(reader, view) if expired or view.state != "draining" else None

        interests: list[Interest] = [key, ("drain", key)]
        return Park(interests, attempt, wait_ms)

    def cancel_drain(self, request: Request, reader: Reader) -> Verb:
        """Take it back."""
        key, name = _target(request)
        command = CancelDrain(key=key, id=name)
        return outcomes.submit(command, lambda reader, _: _drain(request.live, reader, key, name, status=200))

    def _then_shown(self, command: Command, key: ServiceKey, name: str) -> Submit:
        def render(reader: Reader, outcome: Outcome) -> Reply:
            try:
                return self._shown(reader, reader.instance(key, name))
            except NotFound:  # Removed by a later command of the same group: what was asked for has happened.
                return outcomes.done(reader, outcome)

        return outcomes.submit(command, render)

    def _shown(self, reader: Reader, instance: Instance) -> Reply:
        return Reply(200, self._rendering.fragment(instance), (position_header(reader.position),))


def drain_view(live: Live, key: ServiceKey, instance: Instance) -> DrainView:
    """How far the drain of an instance is: who still has to acknowledge its present form."""
    evidence = instance.evidence
    if not evidence.draining_at:
        return _nothing(key, instance.id)
    subscribers = live.subscribers(*key)
    waiting_for = [row.name or row.id for row in subscribers if row.acked < instance.revision]
    complete = not waiting_for or live.now_ms() >= evidence.drain_deadline
    return DrainView(
        service=key.name,
        id=instance.id,
        state="complete" if complete else "draining",
        revision=instance.revision,
        deadline=evidence.drain_deadline,
        subscribers=len(subscribers),
        acknowledged=len(subscribers) - len(waiting_for),
        waiting_for=tuple(waiting_for),
    )


def _nothing(key: ServiceKey, name: str) -> DrainView:
    return DrainView(
        service=key.name, id=name, state="none", revision=0, deadline=0, subscribers=0, acknowledged=0, waiting_for=()
    )


def _drain(live: Live, reader: Reader, key: ServiceKey, name: str, *, status: int) -> Reply:
    try:
        view = drain_view(live, key, reader.instance(key, name))
    except NotFound:
        view = _nothing(key, name)
    return reply(reader, view, status)


def _target(request: Request) -> tuple[ServiceKey, str]:
    return service_key(request), names.instance_id(request.segments["id"])


def _metadata_patch(patch: dict[str, str | None]) -> dict[str, str | None]:
    names.metadata({name: value or "" for name, value in patch.items()})
    return patch
