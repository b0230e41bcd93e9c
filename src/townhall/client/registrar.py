"""A process's place in the catalogue: its services on one lease, under one claim.

The first service is registered with a TTL and brings the lease; the others hang on it, so that one heartbeat keeps
them all. The claim is drawn once per process: registering again with it continues the same incarnation, and a late
message of an earlier process, which has another claim, can do us no harm.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import msgspec

from townhall.client.api import Patch, Registry
from townhall.client.definitions import Service
from townhall.client.records import Drain, Health, JsonObject, Registered, Registration
from townhall.model.check import CheckStatus
from townhall.model.errors import NotFound, TownhallError, Unavailable, Unreachable

__all__ = ["Registrar"]


class Registrar:
    """Registers, updates and removes. Registering again and moving wait for each other; nothing here retries."""

    def __init__(
        self,
        registry: Registry,
        services: Sequence[Service],
        *,
        address: str,
        ttl_ms: int | None,
        checked: bool = False,
    ) -> None:
        """``checked``: they speak of their health, and what an earlier process said of itself holds no longer."""
        self._registry = registry
        self._address = address
        self._ttl_asked_ms = ttl_ms
        self.services = list(services)
        self.claim = secrets.token_hex(16)
        self.lease = ""
        self.ttl_ms = 0
        self.registered: list[Registered | None] = [None] * len(self.services)
        """The last answer for each service; None while it is not registered."""
        self._registering = asyncio.Lock()
        self._healths: list[Health | None] = [Health(CheckStatus.PASSING) if checked else None] * len(self.services)
        """What was said of each one's health; None for nothing."""
        self._left_behind: list[JsonObject] = []
        """Instances under addresses that we have left."""
        self._uncertain = False
        """A registration may have been made without our seeing the answer."""

    async def register(self) -> None:
        """Register all, or nothing: what was made is removed again when one is refused. Raises the refusal."""
        self._uncertain = True
        try:
            await self._register(range(len(self.services)))
            self._uncertain = False
        except TownhallError:
            self.lease = ""
            if any(self.registered):
                await self.deregister()
            raise

    async def register_again(self) -> list[Service]:
        """Register what the registry has forgotten. Returns the services that a later process has taken over."""
        everything = range(len(self.services))
        async with self._registering:
            superseded = [] if self._uncertain else [index for index in everything if await self._is_superseded(index)]
            self._uncertain = True
            await self._register([index for index in everything if index not in superseded])
            self._uncertain = False
            for index in superseded:
                self.registered[index] = None
        return [self.services[index] for index in superseded]

    async def update(self, index: int, **changes: Unpack[Patch]) -> None:
        """Patch one instance, and remember the change for the next registration. Raises ``Fenced`` when superseded."""
        service = self.services[index]
        registered = self.registered[index]
        if registered is None:
            raise NotFound(f"{service.key} is not registered now")
        body: Patch = {**changes, "incarnation": registered.incarnation}
        instance = await self._registry.patch(service.key, registered.instance.id, **body)
        self.registered[index] = Registered(
            instance=instance,
            lease=self.lease,
            ttl_ms=self.ttl_ms,
            incarnation=instance.incarnation,
            revision=instance.revision,
        )
        metadata = {
            name: value
            for name, value in {**service.metadata, **changes.get("metadata", {})}.items()
            if value is not None
        }
        self.services[index] = replace(
            service,
            metadata=metadata,
            tags=changes.get("tags", service.tags),
            weight=changes.get("weight", service.weight),
            zone=changes.get("zone", service.zone),
            ready=changes.get("ready", service.ready),
        )

    async def tell_health(self, index: int, reason: str) -> None:
        """Say why one instance is not to be called, '' for healthy; remembered for the next registration.

        Raises ``Fenced`` when superseded.
        """
        said = Health(CheckStatus.CRITICAL if reason else CheckStatus.PASSING, reason)
        self._healths[index] = said
        registered = self.registered[index]
        if registered is not None:
            await self._registry.health(
                self.services[index].key,
                registered.instance.id,
                said.status,
                output=reason,
                incarnation=registered.incarnation,
            )

    async def move(self, address: str) -> None:
        """Advertise another address from now on: register under it, then remove what the old one left behind.

        Instances with an id of their own keep it and their incarnation. Raises what the registry refuses with.
        """
        async with self._registering:
            before = self._targets()
            self._address = address
            await self._register(range(len(self.services)))
            now = self._targets()
            # Kept until it is done: who fails half way is called again.
            self._left_behind += [one for one in before if one not in now]
            for error in await self._remove(self._left_behind):
                raise error
            self._left_behind.clear()

    async def drain(self, *, deadline_ms: int) -> list[Drain]:
        """Ask for no more new calls to any of our instances."""
        return [
            await self._registry.drain(
                service.key, one.instance.id, deadline_ms=deadline_ms, incarnation=one.incarnation
            )
            for service, one in zip(self.services, self.registered, strict=True)
            if one is not None
        ]

    async def deregister(self) -> list[TownhallError]:
        """Remove our instances, never a later process's. Returns what was refused; raises ``Unreachable``."""
        targets = self._targets()
        self.registered = [None] * len(self.services)
        return await self._remove(targets)

    def _targets(self) -> list[JsonObject]:
        """Our instances as a deregistration names them."""
        return [
            {
                "service": service.name,
                "namespace": service.namespace,
                "group": service.group,
                "id": one.instance.id,
                "claim": self.claim,
            }
            for service, one in zip(self.services, self.registered, strict=True)
            if one is not None
        ]

    async def _remove(self, targets: Sequence[JsonObject]) -> list[TownhallError]:
        results = await self._registry.deregister_batch(targets) if targets else []
        return [error for error in results if error is not None and not isinstance(error, NotFound)]

    async def _register(self, indices: Sequence[int]) -> None:
        if not indices:
            return
        first, *rest = indices
        answer = await self._registry.register(self._registration(first, ttl_ms=self._ttl_asked_ms))
        self.lease = answer.lease or ""
        self.ttl_ms = answer.ttl_ms or 0
        self.registered[first] = answer
        if not rest:
            return
        results = await self._registry.register_batch([self._registration(index, lease=self.lease) for index in rest])
        for index, result in zip(rest, results, strict=True):
            self.registered[index] = result if isinstance(result, Registered) else None
        for result in results:
            if isinstance(result, TownhallError):
                raise result

    def _registration(self, index: int, *, ttl_ms: int | None = None, lease: str | None = None) -> Registration:
        service = self.services[index]
        made = service.registration(address=self._address, claim=self.claim, ttl_ms=ttl_ms, lease=lease)
        return msgspec.structs.replace(made, health=self._healths[index])

    async def _is_superseded(self, index: int) -> bool:
        """Whether our id belongs to a later process that works: taking it back would only begin a quarrel."""
        known = self.registered[index]
        instance_id = known.instance.id if known else self._registration(index).id
        try:
            present = await self._registry.instance(self.services[index].key, instance_id)
        except (Unavailable, Unreachable):
            raise
        except TownhallError:
            return False  # not there, or not for us to read: registering will tell
        incarnation = known.incarnation if known else 0
        return present.callable and present.incarnation > incarnation
