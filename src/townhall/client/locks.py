"""Locks and elections on leases: the fencing number grows with every holder, so a late one can be told off."""

from __future__ import annotations

from typing import Any

import msgspec

from townhall.client.records import JsonObject
from townhall.client.streams import EventStream
from townhall.client.transport import Call, Transport, part, query_of

__all__ = ["Locks"]


class Locks:
    """``Registry.locks`` and ``Registry.elections``. Raises what every call of the API raises."""

    def __init__(self, transport: Transport, kind: str) -> None:
        self._transport = transport
        self._kind = kind

    async def acquire(self, name: str, lease: str, *, value: str | None = None, wait_ms: int = 0) -> JsonObject:
        """``{"held": true, "fence", "key"}``. Raises ``Conflict`` (fields: ``holder``, ``position_in_queue``).

        With ``wait_ms`` it queues; at the deadline it leaves the queue again. The lock is held until ``release`` or
        until the lease ends. Asking again with the same lease gives the same answer.
        """
        given = {"lease": lease, "value": value, "wait_ms": wait_ms or None}
        body = msgspec.json.encode({name: content for name, content in given.items() if content is not None})
        budget_s = self._transport.budget_s + wait_ms / 1000
        return await self._transport.fetch(
            self._call("POST", name, body=body, budget_s=budget_s, repeatable=True), dict[str, Any]
        )

    async def release(self, name: str, lease: str) -> None:
        """Let go, or leave the queue. Raises ``NotFound`` when the lease neither holds nor waits."""
        await self._transport.call(self._call("DELETE", name, query=query_of(lease=lease)))

    async def get(self, name: str) -> JsonObject:
        """``{"holder": … or null, "waiters", "fence"}``."""
        return await self._transport.fetch(self._call("GET", name), dict[str, Any])

    async def proclaim(self, name: str, lease: str, value: str) -> JsonObject:
        """The leader of an election puts a new value. Raises ``Conflict`` when ``lease`` does not lead."""
        body = msgspec.json.encode({"lease": lease, "value": value})
        return await self._transport.fetch(self._call("PUT", name, body=body), dict[str, Any])

    async def watch(self, name: str) -> EventStream:
        """The leaders of an election as they change."""
        return EventStream(await self._transport.stream(self._call("GET", name, query=[("watch", "1")])))

    def _call(self, method: str, name: str, **rest: Any) -> Call:
        return Call(method, f"/{self._kind}/{part(name, keep='/')}", **rest)
