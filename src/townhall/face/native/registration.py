"""Registering and deregistering, one or many, and what callers report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from townhall.core import Command, Outcome
from townhall.core.commands import Deregister, PutCheck, Register, Registration
from townhall.core.queries import Reader
from townhall.face import Reply, Request, Submit, Verb
from townhall.face.native import outcomes, problems
from townhall.face.native.operations import Operation
from townhall.face.native.rendering import Rendering, encode, position_header, reply
from townhall.face.native.requests import lease_id
from townhall.face.native.shapes import (
    BatchBody,
    BatchView,
    DeregisterBody,
    DeregisterItem,
    HealthItem,
    RegisterBody,
    RegisteredView,
    ReportBody,
    ReportView,
)
from townhall.model import limits, names
from townhall.model.access import Level, Resource
from townhall.model.check import word_name
from townhall.model.errors import InvalidField, NotFound, TooLarge, TownhallError
from townhall.model.instance import ServiceKey
from townhall.wire.strict_json import Strict

__all__ = ["Registrations", "command_of", "health_word"]

_REGISTER: Strict[RegisterBody] = Strict(RegisterBody)
_BATCH: Strict[BatchBody] = Strict(BatchBody)
_DEREGISTER: Strict[DeregisterBody] = Strict(DeregisterBody)
_DEREGISTER_ITEM: Strict[DeregisterItem] = Strict(DeregisterItem)
_REPORT: Strict[ReportBody] = Strict(ReportBody)
_KINDS = ("connect", "timeout", "5xx", "reset")

# Instances share addresses and services, and checking an address costs as much as everything else together.
# Refusals are not remembered.
_CHECKED_COUNT_MAX = 16_384
_address = lru_cache(_CHECKED_COUNT_MAX)(names.address)


class Registrations:
    """Handlers that bring instances and take them away, over one ``Rendering``."""

    def __init__(self, rendering: Rendering) -> None:
        self._rendering = rendering

    def operations(self) -> list[Operation]:
        """The rows of the table."""
        tag = "instances"
        return [
            Operation(
                method="POST", path="/instances", handler=self.register, summary="Register or update an instance", tag=tag,
                body=RegisterBody, answers={201: RegisteredView, 200: RegisteredView}, refusals=(404, 409, 429),
                description="Idempotent. The same `claim` keeps the incarnation; 201 when a new one begins. "
                "Renew the lease well within its TTL.",
            ),
            Operation(
                method="POST", path="/instances/batch", handler=self.register_batch, summary="Register many", tag=tag,
                body=BatchBody, body_size_max=limits.BODY_SIZE_MAX, answers={200: BatchView},
                description="Each item is what POST /instances takes and is decided by itself; the order is kept.",
            ),
            Operation(
                method="POST", path="/deregister", handler=self.deregister_batch, summary="Deregister many", tag=tag,
                body=DeregisterBody, body_size_max=limits.BODY_SIZE_MAX, answers={200: BatchView},
            ),
            Operation(
                method="POST", path="/reports", handler=self.report, summary="Tell of failed calls", tag=tag,
                body=ReportBody, answers={200: ReportView},
                description="Enough failures within a few seconds make an instance suspect for half a minute.",
            ),
        ]  # fmt: skip

    def register(self, request: Request, reader: Reader) -> Verb:
        """Register one."""
        return outcomes.submit(command_of(_REGISTER.decode(request.body), request.peer), self._registered)

    def _registered(self, reader: Reader, outcome: Outcome) -> Reply:
        status = 201 if isinstance(outcome.result, Registration) and outcome.result.fresh else 200
        return Reply(status, self._result(reader, outcome), (position_header(reader.position),))

    def register_batch(self, request: Request, reader: Reader) -> Verb:
        """Register many; what cannot even be decoded fails by itself as well."""
        items = _BATCH.decode(request.body).instances
        _check_count(items)
        return _decided_apart(items, lambda raw: command_of(_REGISTER.decode(raw), request.peer), self._result)

    def _result(self, reader: Reader, outcome: Outcome) -> bytes:
        result = outcome.result
        assert isinstance(result, Registration)
        try:
            instance = reader.instance(result.instance.key, result.instance.id)
        except NotFound:  # A later command of the same group has removed it already.
            instance = result.instance
        lease = b'"%d"' % result.lease if result.lease else b"null"
        ttl_ms = b"%d" % result.ttl_ms if result.lease else b"null"
        return b'{"instance":%b,"lease":%b,"ttl_ms":%b,"incarnation":%d,"revision":%d}' % (
            self._rendering.fragment(instance), lease, ttl_ms, instance.incarnation, instance.revision,
        )  # fmt: skip

    def deregister_batch(self, request: Request, reader: Reader) -> Verb:
        """Deregister many."""
        items = _DEREGISTER.decode(request.body).instances
        _check_count(items)
        return _decided_apart(items, _deregister, lambda reader, outcome: b'{"removed":true}')

    def report(self, request: Request, reader: Reader) -> Verb:
        """Count failed calls. Only who may discover an instance may report it."""
        body = _REPORT.decode(request.body)
        names.label(body.reporter, "reporter")
        _check_count(body.failures)
        keys = []
        for index, item in enumerate(body.failures):
            if item.kind not in _KINDS:
                raise InvalidField(f"failures[{index}].kind", f"must be one of {', '.join(_KINDS)}")
            key = _key(item.namespace, item.group, item.service)
            reader.require(Resource.SERVICE, Level.READ, "/".join(key))
            keys.append(key)
        accepted = 0
        unknown = []
        for key, item in zip(keys, body.failures, strict=True):
            if request.live.report(body.reporter, (*key, item.id), item.kind, item.count):
                accepted += 1
            else:
                unknown.append({"namespace": key.namespace, "group": key.group, "service": key.name, "id": item.id})
        return reply(reader, ReportView(accepted=accepted, unknown=unknown))


def command_of(body: RegisterBody, origin: str) -> Register:
    """The command of a body, every value checked. Raises InvalidField."""
    address = _address(body.address)
    key = _key(body.namespace, body.group, body.service)
    name = names.instance_id(body.id or f"{key.name}-{address}-{body.port}")
    return Register(
        key=key,
        id=name,
        address=address,
        port=names.port(body.port, zero=True),
        ports=names.ports(body.ports) if body.ports else {},
        tags=names.tags(body.tags) if body.tags else (),
        metadata=names.metadata(body.metadata) if body.metadata else {},
        weight=names.weight(body.weight),
        region=body.region and names.label(body.region, "region"),
        zone=body.zone and names.label(body.zone, "zone"),
        cluster=body.cluster and names.label(body.cluster, "cluster"),
        enabled=body.enabled,
        ready=body.ready,
        persistent=body.persistent,
        ttl_ms=body.ttl_ms or 0,
        lease=0 if body.lease is None else lease_id(body.lease),
        claim=body.claim and names.label(body.claim, "claim"),
        origin=origin,
        checks=() if body.health is None else (health_word(key, name, body.health),),
    )


def health_word(key: ServiceKey, name: str, word: HealthItem, *, incarnation: int = 0) -> PutCheck:
    """The check that holds a provider's word on its instance."""
    node, check = word_name(key, name)
    return PutCheck(
        node=node,
        id=check,
        name="health",
        status=word.status,
        output=word.output,
        key=key,
        instance=name,
        incarnation=incarnation,
    )


def _deregister(raw: bytes) -> Deregister:
    item = _DEREGISTER_ITEM.decode(raw)
    return Deregister(
        key=_key(item.namespace, item.group, item.service),
        id=names.instance_id(item.id),
        incarnation=item.incarnation,
        claim=names.label(item.claim, "claim", empty=True),
    )


@lru_cache(_CHECKED_COUNT_MAX)
def _key(namespace: str, group: str, service: str) -> ServiceKey:
    return ServiceKey(names.namespace(namespace), names.namespace(group, "group"), names.service(service))


def _check_count(items: Sequence[object]) -> None:
    if len(items) > limits.BATCH_COUNT_MAX:
        raise TooLarge(f"{len(items)} items, at most {limits.BATCH_COUNT_MAX}", limit=limits.BATCH_COUNT_MAX)


def _decided_apart(items: Sequence[msgspec.Raw], read: Any, render: Any) -> Submit | Reply:
    """One command per item that can be read; the answer has a result or a problem for each, in order."""
    commands: list[Command] = []
    unreadable: dict[int, TownhallError] = {}
    for index, raw in enumerate(items):
        try:
            commands.append(read(bytes(raw)))
        except TownhallError as error:
            unreadable[index] = error

    def answer(reader: Reader, decided: Sequence[Outcome | TownhallError]) -> Reply:
        outcomes_left = iter(decided)
        results = []
        for index in range(len(items)):
            outcome = unreadable.get(index) or next(outcomes_left)
            if isinstance(outcome, TownhallError):
                results.append(b'{"error":%b}' % encode(problems.problem(outcome)))
            else:
                results.append(render(reader, outcome))
        position = reader.position
        body = b'{"results":[%b],"revision":%d}' % (b",".join(results), position)
        return Reply(200, body, (position_header(position),))

    return Submit(commands, answer)
