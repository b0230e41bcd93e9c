"""Typed calls of the native API: what the SDK and the command line are built on.

``Registry`` holds services, instances and leases; keys, locks, elections and access are its parts. Every call raises

* the class of ``model.errors`` that the refusal's code names (``NotFound``, ``Fenced``, ``Denied``, …),
* ``Unreachable`` when no registry answered within the budget,
* ``PeerMisbehaved`` when what answered is not a Townhall.

A service is named by its plain name (in the registry's own ``namespace`` and group ``default``), by
``namespace/group/name``, or by a ``ServiceKey``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import msgspec

from townhall.client import problems
from townhall.client.access import Access
from townhall.client.keys import KeySpace
from townhall.client.leases import Leases
from townhall.client.locks import Locks
from townhall.client.records import (
    Drain,
    Instance,
    Instances,
    JsonObject,
    Registered,
    Registration,
    Renewal,
    ServiceRecord,
    Services,
    Subscribers,
)
from townhall.client.streams import SessionStream, WatchStream
from townhall.client.transport import Call, Transport, decode, part, query_of
from townhall.model import limits
from townhall.model.check import CheckStatus
from townhall.model.errors import PeerMisbehaved, TownhallError
from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE, ServiceKey, Verdict

if TYPE_CHECKING:
    import ssl

__all__ = ["DEFAULT_URL", "Filters", "Patch", "Registry", "RegistryOptions", "service_key", "watch_name"]

DEFAULT_URL = "http://127.0.0.1:7500"

ServiceName = str | ServiceKey


class RegistryOptions(TypedDict, total=False):
    """How to reach the registry."""

    token: str
    """The secret of a token."""
    namespace: str
    """Of services that are given by their plain name."""
    budget_s: float
    """Seconds that one call may take over all URLs, waiting not counted."""
    ssl_context: ssl.SSLContext | None
    """For https URLs; None trusts what the system trusts."""


class Filters(TypedDict, total=False):
    """Which instances are wanted; all given ones must hold."""

    healthy: bool
    """Only those that may be called."""
    tags: Sequence[str]
    meta: Mapping[str, str]
    zone: str
    region: str
    cluster: str
    filter: str
    """An expression, such as ``"v2" in tags and weight > 1``."""
    after: int
    """With ``wait_ms``: answer when the service's revision is above this."""
    wait_ms: int


class Patch(TypedDict, total=False):
    """What a patch may change; what is not given stays."""

    tags: Sequence[str]
    metadata: Mapping[str, str | None]
    """Merged; None removes a key."""
    weight: float
    enabled: bool
    ready: bool
    zone: str
    incarnation: int
    """Refused as ``Fenced`` when the instance has another one."""


def service_key(name: ServiceName, *, namespace: str = DEFAULT_NAMESPACE) -> ServiceKey:
    """The key that a name stands for; ``namespace/group/name`` gives all three parts."""
    if isinstance(name, ServiceKey):
        return name
    parts = name.split("/")
    return ServiceKey(*parts) if len(parts) == 3 else ServiceKey(namespace, DEFAULT_GROUP, name)


def watch_name(key: ServiceKey) -> str:
    """A key as a watch names it: short where that is enough, because all names must fit into one request target."""
    usual = key.namespace == DEFAULT_NAMESPACE and key.group == DEFAULT_GROUP
    return key.name if usual else "/".join(key)


class Registry:
    """The native API. An async context manager; without one call ``close``."""

    def __init__(self, urls: str | Sequence[str] = DEFAULT_URL, **options: Unpack[RegistryOptions]) -> None:
        self.namespace = options.get("namespace", DEFAULT_NAMESPACE)
        self.transport = Transport(
            urls,
            token=options.get("token", ""),
            budget_s=options.get("budget_s", limits.CLIENT_TIMEOUT_MS / 1000),
            ssl_context=options.get("ssl_context"),
        )
        self.kv = KeySpace(self.transport)
        self.leases = Leases(self.transport)
        self.locks = Locks(self.transport, "locks")
        self.elections = Locks(self.transport, "elections")
        self.access = Access(self.transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop all connections; idempotent."""
        self.transport.close()
        # One turn of the loop, in which the sockets close: a program may end right after this.
        await asyncio.sleep(0)

    # --- registering -----------------------------------------------------------------------------------------------

    async def register(self, registration: Registration) -> Registered:
        """Register or update one instance; with the same claim it is idempotent and so may be tried again."""
        body = msgspec.json.encode(registration)
        return await self.transport.fetch(Call("POST", "/instances", body=body, repeatable=True), Registered)

    async def register_batch(self, registrations: Sequence[Registration]) -> list[Registered | TownhallError]:
        """Register many; the results come in the same order, and one that fails does not stop the others."""
        body = msgspec.json.encode({"instances": list(registrations)})
        results = await self._results(Call("POST", "/instances/batch", body=body, repeatable=True), len(registrations))
        return [_result(one, Registered) for one in results]

    async def deregister(
        self, service: ServiceName, instance_id: str, *, incarnation: int | None = None, claim: str = ""
    ) -> None:
        """Remove one instance; ``Fenced`` when it has another incarnation or claim, ``NotFound`` when it is not there."""
        query = query_of(incarnation=incarnation, claim=claim)
        await self.transport.call(self._instance_call("DELETE", service, instance_id, query=query))

    async def deregister_batch(self, targets: Sequence[JsonObject]) -> list[TownhallError | None]:
        """Remove many, each ``{"service", "id"}`` with optional namespace, group, incarnation and claim."""
        body = msgspec.json.encode({"instances": list(targets)})
        results = await self._results(Call("POST", "/deregister", body=body, repeatable=True), len(targets))
        return [problems.from_problem(one["error"]) if "error" in one else None for one in results]

    async def renew(self, leases: Sequence[str], *, budget_s: float | None = None) -> Renewal:
        """Renew many leases in one request; those in ``unknown`` have ended."""
        body = msgspec.json.encode({"leases": list(leases)})
        return await self.transport.fetch(
            Call("POST", "/renew", body=body, budget_s=budget_s, repeatable=True), Renewal
        )

    async def session(self, name: str, leases: Sequence[str]) -> SessionStream:
        """Open the stream that a provider keeps; the first line from the registry is the ``welcome``."""
        hello = msgspec.json.encode({"hello": {"name": name, "leases": list(leases)}}) + b"\n"
        headers = {"content-type": "application/x-ndjson"}
        return SessionStream(
            await self.transport.stream(Call("POST", "/session", body=hello, headers=headers), duplex=True)
        )

    # --- services --------------------------------------------------------------------------------------------------

    async def services(self, prefix: str = "", *, after: int | None = None, wait_ms: int = 0) -> Services:
        """The services of the namespace with their counts; with ``wait_ms`` answered when the list changes."""
        query = query_of(prefix=prefix, namespace=self.namespace, after=after, wait=wait_ms or None)
        return await self.transport.fetch(Call("GET", "/services", query, budget_s=self._budget(wait_ms)), Services)

    async def service(self, service: ServiceName) -> ServiceRecord:
        """One service's record. Raises ``NotFound``."""
        return await self.transport.fetch(self._call("GET", service), ServiceRecord)

    async def put_service(
        self, service: ServiceName, *, metadata: Mapping[str, str] | None = None, settings: JsonObject | None = None
    ) -> ServiceRecord:
        """Create a service, or change its metadata and settings (``floor``, ``protect``, ``drain_deadline_ms``)."""
        given = {"metadata": metadata, "settings": settings}
        body = msgspec.json.encode({name: value for name, value in given.items() if value is not None})
        return await self.transport.fetch(self._call("PUT", service, body=body), ServiceRecord)

    async def delete_service(self, service: ServiceName) -> None:
        """Remove a service's record. Raises ``Conflict`` while it has instances."""
        await self.transport.call(self._call("DELETE", service))

    async def instances(self, service: ServiceName, **filters: Unpack[Filters]) -> Instances:
        """The instances of a service; an unknown service has none and revision 0."""
        return (await self.instances_at(service, **filters))[0]

    async def instances_at(self, service: ServiceName, **filters: Unpack[Filters]) -> tuple[Instances, int]:
        """The same, and the journal position at which it is true: a watch from there misses nothing."""
        wait_ms = filters.get("wait_ms", 0)
        query = query_of(
            healthy=filters.get("healthy", False),
            tag=filters.get("tags", ()),
            meta=[f"{name}:{value}" for name, value in filters.get("meta", {}).items()],
            zone=filters.get("zone"),
            region=filters.get("region"),
            cluster=filters.get("cluster"),
            filter=filters.get("filter"),
            after=filters.get("after"),
            wait=wait_ms or None,
        )
        call = self._call("GET", service, "/instances", query=query, budget_s=self._budget(wait_ms))
        response = await self.transport.call(call)
        position = response.headers.get("x-townhall-revision", "0")
        if not (position.isascii() and position.isdigit()):
            raise PeerMisbehaved(f"not a position: {position[:40]!r}")
        return decode(response.body, Instances), int(position)

    async def subscribers(self, service: ServiceName) -> Subscribers:
        """Who watches a service, and which revision each has seen."""
        return await self.transport.fetch(self._call("GET", service, "/subscribers"), Subscribers)

    # --- one instance ----------------------------------------------------------------------------------------------

    async def instance(self, service: ServiceName, instance_id: str) -> Instance:
        """One instance. Raises ``NotFound``."""
        return await self.transport.fetch(self._instance_call("GET", service, instance_id), Instance)

    async def patch(self, service: ServiceName, instance_id: str, **changes: Unpack[Patch]) -> Instance:
        """Change what is given and keep the rest."""
        call = self._instance_call("PATCH", service, instance_id, body=msgspec.json.encode(changes))
        return await self.transport.fetch(call, Instance)

    async def health(
        self,
        service: ServiceName,
        instance_id: str,
        status: CheckStatus | str,
        *,
        output: str = "",
        incarnation: int = 0,
    ) -> Instance:
        """What a look at an instance found: ``critical`` takes it out of use with ``output`` as the reason."""
        body = msgspec.json.encode({"status": str(status), "output": output, "incarnation": incarnation})
        call = self._instance_call("PUT", service, instance_id, "/health", body=body)
        return await self.transport.fetch(call, Instance)

    async def forget_health(self, service: ServiceName, instance_id: str) -> None:
        """Take back what was said of its health. Raises ``NotFound`` when nothing was."""
        await self.transport.call(self._instance_call("DELETE", service, instance_id, "/health"))

    async def maintenance(self, service: ServiceName, instance_id: str, reason: str | None) -> None:
        """Take an instance out with a reason; None brings it back."""
        await self._toggle(service, instance_id, "/maintenance", None if reason is None else {"reason": reason})

    async def override(
        self, service: ServiceName, instance_id: str, verdict: Verdict | str | None, *, reason: str = ""
    ) -> None:
        """The operator's word over all evidence; None takes it back."""
        body = None if verdict is None else {"verdict": str(verdict), "reason": reason}
        await self._toggle(service, instance_id, "/override", body)

    async def drain(
        self, service: ServiceName, instance_id: str, *, deadline_ms: int | None = None, incarnation: int | None = None
    ) -> Drain:
        """Begin to drain: no new calls; over when all subscribers know, or after ``deadline_ms``."""
        given = {"deadline_ms": deadline_ms, "incarnation": incarnation}
        body = msgspec.json.encode({name: value for name, value in given.items() if value is not None})
        return await self.transport.fetch(self._instance_call("POST", service, instance_id, "/drain", body=body), Drain)

    async def drain_status(self, service: ServiceName, instance_id: str, *, wait_ms: int = 0) -> Drain:
        """How far it is; with ``wait_ms`` answered when it is complete, or then."""
        query = query_of(wait=wait_ms or None)
        call = self._instance_call("GET", service, instance_id, "/drain", query=query, budget_s=self._budget(wait_ms))
        return await self.transport.fetch(call, Drain)

    async def cancel_drain(self, service: ServiceName, instance_id: str) -> None:
        """Callers may have it again."""
        await self.transport.call(self._instance_call("DELETE", service, instance_id, "/drain"))

    async def report(self, reporter: str, failures: Sequence[JsonObject]) -> JsonObject:
        """Tell of failed calls: ``{"service", "id", "kind", "count"}`` each, with optional namespace and group."""
        body = msgspec.json.encode({"reporter": reporter, "failures": list(failures)})
        return await self.transport.fetch(Call("POST", "/reports", body=body), dict[str, Any])

    # --- watching --------------------------------------------------------------------------------------------------

    async def watch(
        self,
        services: Iterable[ServiceName],
        *,
        subscriber: str = "",
        resume_after: int | None = None,
        explicit: bool = False,
        healthy: bool = False,
    ) -> WatchStream:
        """Watch many services in one stream: snapshots first, then deltas.

        ``subscriber`` is our name in the table of subscribers; ``explicit`` promises to ``acknowledge``.
        ``resume_after`` (a position) leaves out services that have not changed since.
        """
        names = [watch_name(service_key(name, namespace=self.namespace)) for name in services]
        query = query_of(service=names, subscriber=subscriber, ack="explicit" if explicit else None, healthy=healthy)
        headers = {"accept": "text/event-stream"}
        if resume_after is not None:
            headers["last-event-id"] = str(resume_after)
        return WatchStream(await self.transport.stream(Call("GET", "/watch", query, headers=headers)))

    async def acknowledge(self, subscriber: str, revisions: Mapping[ServiceKey, int]) -> None:
        """Tell that these services are applied up to these revisions. Raises ``NotFound`` for an unknown subscriber."""
        body = msgspec.json.encode({"services": {"/".join(key): revision for key, revision in revisions.items()}})
        await self.transport.call(Call("POST", f"/watch/{part(subscriber)}/ack", body=body, repeatable=True))

    # --- the registry itself -----------------------------------------------------------------------------------------

    async def status(self) -> JsonObject:
        """Counts, engine, floor, grace and stalls."""
        return await self.transport.fetch(Call("GET", "/status"), dict[str, Any])

    async def version(self) -> JsonObject:
        """What the registry is and which version."""
        return await self.transport.fetch(Call("GET", "/version"), dict[str, Any])

    async def ready(self) -> bool:
        """Whether it serves. Raises ``Unreachable`` when nobody is there."""
        try:
            await self.transport.call(Call("GET", "/readyz"))
        except TownhallError as error:
            if error.fields.get("status") == 503:
                return False
            raise
        return True

    async def metrics(self) -> str:
        """Prometheus' text format."""
        return (await self.transport.call(Call("GET", "/metrics"))).text

    async def backup(self) -> AsyncIterator[bytes]:
        """The bytes of a consistent backup, as they come; needs operator rights."""
        async with await self.transport.stream(Call("GET", "/backup")) as stream:
            async for piece in stream.pieces(silence_s=self.transport.budget_s):
                yield piece

    # --- inside ------------------------------------------------------------------------------------------------------

    def _call(self, method: str, service: ServiceName, below: str = "", **rest: Any) -> Call:
        key = service_key(service, namespace=self.namespace)
        query = query_of(namespace=key.namespace, group=key.group) + rest.pop("query", [])
        return Call(method, f"/services/{part(key.name)}{below}", query, **rest)

    def _instance_call(self, method: str, service: ServiceName, instance_id: str, below: str = "", **rest: Any) -> Call:
        return self._call(method, service, f"/instances/{part(instance_id)}{below}", **rest)

    async def _toggle(self, service: ServiceName, instance_id: str, below: str, body: JsonObject | None) -> None:
        if body is None:
            call = self._instance_call("DELETE", service, instance_id, below)
        else:
            call = self._instance_call("PUT", service, instance_id, below, body=msgspec.json.encode(body))
        await self.transport.call(call)

    def _budget(self, wait_ms: int) -> float | None:
        """A wait that was asked for comes on top of the ordinary budget."""
        return self.transport.budget_s + wait_ms / 1000 if wait_ms else None

    async def _results(self, call: Call, count: int) -> list[JsonObject]:
        answer = await self.transport.fetch(call, dict[str, Any])
        results = answer.get("results")
        if not isinstance(results, list) or len(results) != count or not all(isinstance(one, dict) for one in results):
            raise PeerMisbehaved(f"{count} results were due")
        return results


def _result(one: JsonObject, kind: type[Registered]) -> Registered | TownhallError:
    if "error" in one:
        return problems.from_problem(one["error"])
    try:
        return msgspec.convert(one, kind)
    except msgspec.ValidationError as error:
        raise PeerMisbehaved(f"the registry's answer is not what the native API gives: {error}") from error
