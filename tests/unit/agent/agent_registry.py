"""A registry as a keeper sees it: the calls it makes, answered from memory, failing when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from townhall.agent import Notice
from townhall.agent.keeper import Keeper
from townhall.client.address import AddressChoice
from townhall.client.connection import Origin
from townhall.client.records import Drain, Instance, Lease, Registered, Registration
from townhall.model.errors import Fenced, LeaseNotFound, NotFound, TownhallError, Unreachable

AWAY = Unreachable("no registry answers", kind="connect", sent=False)


class FakeRegistry:
    def __init__(self) -> None:
        self.instances_by_id: dict[str, Instance] = {}
        self.claims: dict[str, str] = {}
        self.healths: dict[str, tuple[str, str]] = {}
        self.leases = self
        self.transport = self
        self.preferred = Origin("http", "127.0.0.1", 7500)
        self.granted: list[str] = []
        self.lease = ""
        self.failing: Exception | None = None
        self.refusing: dict[str, TownhallError] = {}
        self.calls: list[str] = []
        self.drains: list[Drain] = []
        self.closed = False
        self._incarnation = 0

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failing is not None:
            raise self.failing

    async def grant(self, *, ttl_ms: int | None = None) -> Lease:
        self._called("grant")
        self.lease = f"{len(self.granted) + 1}"
        self.granted.append(self.lease)
        return Lease(lease=self.lease, ttl_ms=ttl_ms or 15_000)

    async def get(self, lease: str) -> Lease:
        self._called("lease")
        if lease != self.lease:
            raise LeaseNotFound("gone")
        held = [one for one in self.instances_by_id.values() if one.lease == lease]
        names = tuple((one.namespace, one.group, one.service, one.id) for one in held)
        return Lease(lease=lease, ttl_ms=15_000, instances=names)

    async def revoke(self, lease: str) -> None:
        self._called("revoke")
        if lease != self.lease:
            raise LeaseNotFound("gone")
        self.forget()

    def forget(self) -> None:
        self.lease = ""
        self.instances_by_id.clear()
        self.healths.clear()

    async def renew(self, leases: Sequence[str], *, budget_s: float | None = None) -> Any:
        self._called("renew")
        raise AWAY

    async def session(self, name: str, leases: Sequence[str]) -> Any:
        raise AWAY

    async def register_batch(self, wanted: Sequence[Registration]) -> list[Registered | TownhallError]:
        self._called("register")
        return [self._register(one) for one in wanted]

    def _register(self, wanted: Registration) -> Registered | TownhallError:
        if wanted.service in self.refusing:
            return self.refusing[wanted.service]
        if wanted.lease != self.lease:
            return LeaseNotFound("ended")
        if self.claims.get(wanted.id) != wanted.claim or wanted.id not in self.instances_by_id:
            self._incarnation += 1
        return self.put(wanted, self._incarnation)

    def put(self, wanted: Registration, incarnation: int) -> Registered:
        instance = Instance(
            id=wanted.id, service=wanted.service, address=wanted.address, port=wanted.port, weight=wanted.weight,
            incarnation=incarnation, lease=wanted.lease,
        )  # fmt: skip
        self.instances_by_id[wanted.id] = instance
        self.claims[wanted.id] = wanted.claim
        if wanted.health is not None:
            self.healths[wanted.id] = (wanted.health.status.value, wanted.health.output)
        return Registered(instance=instance, lease=wanted.lease, ttl_ms=15_000, incarnation=incarnation)

    async def health(self, key: object, name: str, status: str, *, output: str = "", incarnation: int = 0) -> Instance:
        self._called("health")
        instance = self.instances_by_id.get(name)
        if instance is None:
            raise NotFound("no such instance")
        if instance.incarnation != incarnation:
            raise Fenced("another incarnation")
        self.healths[name] = (str(status), output)
        return instance

    async def instance(self, key: object, name: str) -> Instance:
        self._called("instance")
        if name not in self.instances_by_id:
            raise NotFound("no such instance")
        return self.instances_by_id[name]

    async def deregister_batch(self, targets: Sequence[dict[str, Any]]) -> list[TownhallError | None]:
        self._called("deregister")
        results: list[TownhallError | None] = []
        for target in targets:
            if target["id"] not in self.instances_by_id:
                results.append(NotFound("gone"))
            elif self.claims[target["id"]] != target["claim"]:
                results.append(Fenced("not yours"))
            else:
                del self.instances_by_id[target["id"]]
                results.append(None)
        return results

    async def drain(self, key: object, name: str, *, deadline_ms: int, incarnation: int) -> Drain:
        self._called("drain")
        return self.drains.pop(0)

    async def drain_status(self, key: object, name: str, *, wait_ms: int) -> Drain:
        self._called("drain_status")
        return self.drains.pop(0)

    async def close(self) -> None:
        self.closed = True


class Bench:
    """A keeper on a fake registry, and what it has told."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.registry = FakeRegistry()
        self.notices: list[Notice] = []
        self.keeper = Keeper(
            self.registry,  # type: ignore[arg-type]
            name="test", tell=self.notices.append, choice=AddressChoice(address),
        )  # fmt: skip

    @property
    def events(self) -> list[str]:
        return [notice.event for notice in self.notices]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(120):
            while not condition():  # noqa: ASYNC110 - other tasks are waited for
                await asyncio.sleep(0.001)
