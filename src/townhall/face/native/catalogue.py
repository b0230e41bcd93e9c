"""Services and what is asked about all of a service: lists, records, its instances, its subscribers."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET

from townhall.core.commands import DeleteService, PutService
from townhall.core.queries import Reader
from townhall.face import Headers, Park, Reply, Request, Verb
from townhall.face.native import outcomes, selection
from townhall.face.native.operations import SCOPE, Operation
from townhall.face.native.rendering import Rendering, join_instances, position_header, reply
from townhall.face.native.requests import AFTER, WAIT, Text, service_key
from townhall.face.native.shapes import (
    FloorView,
    InstancesView,
    ServiceBody,
    ServiceRow,
    ServicesView,
    ServiceView,
    SettingsView,
    SubscribersView,
    SubscriberView,
)
from townhall.model import limits, names
from townhall.model.access import Level, Resource
from townhall.model.instance import ServiceKey, ServiceSettings
from townhall.wire.strict_json import Strict

__all__ = ["Catalogue", "not_modified"]

_SERVICE_BODY: Strict[ServiceBody] = Strict(ServiceBody)
_PREFIX = Text("prefix", "Only services whose name begins with this.", size_max=limits.SERVICE_SIZE_MAX)
_LISTED = Text("namespace", "Only this namespace; all when it is not given.", size_max=limits.NAMESPACE_SIZE_MAX)


class Catalogue:
    """Handlers about services, over one ``Rendering``."""

    def __init__(self, rendering: Rendering) -> None:
        self._rendering = rendering

    def operations(self) -> list[Operation]:
        """The rows of the table."""
        record = "/services/{service}"
        tag = "services"
        return [
            Operation(
                method="GET", path="/services", handler=self.services, summary="List services with their counts", tag=tag,
                parameters=(_LISTED, _PREFIX, AFTER, WAIT), answers={200: ServicesView},
            ),
            Operation(
                method="GET", path=record, handler=self.service, summary="One service: metadata, settings, floor", tag=tag,
                parameters=SCOPE, answers={200: ServiceView}, refusals=(404,),
            ),
            Operation(
                method="PUT", path=record, handler=self.put_service, summary="Create a service or change its settings",
                tag=tag, parameters=SCOPE, body=ServiceBody, answers={200: ServiceView}, refusals=(429,),
            ),
            Operation(
                method="DELETE", path=record, handler=self.delete_service, summary="Forget a service without instances",
                tag=tag, parameters=SCOPE, answers={204: None}, refusals=(404, 409),
            ),
            Operation(
                method="GET", path=record + "/instances", handler=self.instances, summary="Find the instances of a service",
                tag=tag, parameters=(*SCOPE, *selection.PARAMETERS, AFTER, WAIT), answers={200: InstancesView, 304: None},
                description="With `after` (and `wait`) a long poll; with If-None-Match a conditional read. "
                "An unknown service is an empty list at revision 0.",
            ),
            Operation(
                method="GET", path=record + "/subscribers", handler=self.subscribers, tag=tag, parameters=SCOPE,
                summary="Who watches a service, and which revision each has seen", answers={200: SubscribersView},
            ),
        ]  # fmt: skip

    def services(self, request: Request, reader: Reader) -> Verb:
        """The list, now or when it changes."""
        reader.require_token()
        namespace = _LISTED.read(request)
        if namespace:
            names.namespace(namespace)
        prefix = _PREFIX.read(request)
        interest = ("services", namespace)

        def answer(reader: Reader) -> Reply:
            rows = [
                ServiceRow(
                    namespace=row.key.namespace, group=row.key.group, name=row.key.name, instances=row.instances,
                    callable=row.callable, revision=row.revision, tags=row.tags, metadata=row.metadata,
                )
                for row in reader.services(namespace, prefix)
            ]  # fmt: skip
            return reply(reader, ServicesView(revision=reader.listing_revision(namespace), services=rows))

        after = AFTER.given(request)
        if after is None:
            shown = answer(reader)
            view = request.live.view([interest, ("access", "")])
            return Reply(shown.status, shown.body, shown.headers, view=view)
        return _parked(
            request, interest, lambda reader: _passed(reader, reader.listing_revision(namespace), after), answer
        )

    def service(self, request: Request, reader: Reader) -> Verb:
        """One service's record."""
        return _service(reader, service_key(request))

    def put_service(self, request: Request, reader: Reader) -> Verb:
        """Create or change a record."""
        key = service_key(request)
        body = _SERVICE_BODY.decode(request.body)
        metadata = names.metadata(body.metadata) if body.metadata is not UNSET else None
        settings = None
        if (wanted := body.settings) is not UNSET:
            settings = ServiceSettings(wanted.floor, wanted.protect, wanted.drain_deadline_ms)
        command = PutService(key=key, metadata=metadata, settings=settings)
        return outcomes.submit(command, lambda reader, _: _service(reader, key))

    def delete_service(self, request: Request, reader: Reader) -> Verb:
        """Forget a record."""
        return outcomes.submit(DeleteService(key=service_key(request)), outcomes.done)

    def instances(self, request: Request, reader: Reader) -> Verb:
        """Discovery: the instances of a service, some of them, later, or only if they changed."""
        key = service_key(request)
        if not request.query and "if-none-match" not in request.headers:
            return self._whole(request, reader, key)
        chosen = selection.read(request)
        after = AFTER.given(request)

        def answer(reader: Reader) -> Reply:
            revision = reader.service_revision(key)
            if chosen.accepts is None:
                body = self._rendering.instances(reader, key, healthy=chosen.healthy)
            else:
                found = reader.instances(key, callable_only=chosen.healthy)
                fragments = self._rendering.fragments(filter(chosen.accepts, found))
                body = join_instances(key, revision, fragments)
            return Reply(200, body, _headers(reader, revision))

        if after is not None:
            return _parked(request, key, lambda reader: _passed(reader, reader.service_revision(key), after), answer)
        revision = reader.service_revision(key)
        if not_modified(request, revision):
            return Reply(304, b"", _headers(reader, revision))
        shown = answer(reader)
        return Reply(shown.status, shown.body, shown.headers, view=request.live.view([key, ("access", "")]))

    def _whole(self, request: Request, reader: Reader, key: ServiceKey) -> Reply:
        body = self._rendering.instances(reader, key, healthy=False)
        headers = _headers(reader, reader.service_revision(key))
        return Reply(200, body, headers, view=request.live.view([key, ("access", "")]))

    def subscribers(self, request: Request, reader: Reader) -> Verb:
        """The table of subscribers of one service."""
        key = service_key(request)
        reader.require(Resource.SERVICE, Level.READ, f"{key.namespace}/{key.group}/{key.name}")
        revision = reader.service_revision(key)
        rows = [
            SubscriberView(
                id=row.id, name=row.name, address=row.address, protocol=row.protocol, since=row.since, sent=row.sent,
                acked=row.acked, explicit=row.explicit, behind=row.acked < revision,
            )
            for row in request.live.subscribers(*key)
        ]  # fmt: skip
        return reply(reader, SubscribersView(revision=revision, subscribers=rows))


def not_modified(request: Request, revision: int) -> bool:
    """Whether If-None-Match names this revision (RFC 9110 §13.1.2: weak comparison, ``*`` is whatever is there)."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    wanted = f'"{revision}"'
    return any(tag.strip().removeprefix("W/") in (wanted, "*") for tag in given.split(","))


def _headers(reader: Reader, revision: int) -> Headers:
    return (position_header(reader.position), (b"etag", b'"%d"' % revision))


def _passed(reader: Reader, revision: int, after: int) -> bool:
    # A revision that this registry has not reached yet is one of before a restore: waiting for it would be in vain.
    return revision > after or after > reader.position


def _parked(
    request: Request,
    interest: ServiceKey | tuple[str, str],
    passed: Callable[[Reader], bool],
    answer: Callable[[Reader], Reply],
) -> Park:
    def attempt(reader: Reader, expired: bool) -> Reply | None:
        return answer(reader) if expired or passed(reader) else None

    return Park([interest], attempt, WAIT.read(request))


def _service(reader: Reader, key: ServiceKey) -> Reply:
    service = reader.service(key)
    settings = reader.settings(key)
    floor = reader.floor(key)
    tags: set[str] = set()
    for instance in service.instances.values():
        tags.update(instance.tags)
    view = ServiceView(
        name=key.name,
        namespace=key.namespace,
        group=key.group,
        metadata=service.metadata,
        settings=SettingsView(
            floor=settings.floor, protect=settings.protect, drain_deadline_ms=settings.drain_deadline_ms
        ),
        floor=FloorView(
            ratio=floor.ratio, known=floor.known, callable=floor.callable, silent=floor.silent, held=floor.held,
            engaged=floor.engaged,
        ),
        instances=len(service.instances),
        callable=service.callable,
        revision=service.revision,
        tags=tuple(sorted(tags)),
    )  # fmt: skip
    return reply(reader, view)
