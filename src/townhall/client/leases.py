"""Leases, one by one; ``Registry.renew`` renews many at once."""

from __future__ import annotations

from typing import Any

import msgspec

from townhall.client.records import Lease
from townhall.client.transport import Call, Transport, part
from townhall.model.errors import PeerMisbehaved
from townhall.model.lease import LeaseKind

__all__ = ["Leases"]


class Leases:
    """``Registry.leases``. Raises what every call of the API raises."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def grant(
        self, *, ttl_ms: int | None = None, lease: str | None = None, kind: LeaseKind | None = None
    ) -> Lease:
        """A new lease; ``lease`` picks its number. Raises ``AlreadyExists`` when that is in use.

        ``LeaseKind.KEYS`` is for locks and keys: it ends exactly when its TTL has passed, without the grace that
        instances have.
        """
        given = {"ttl_ms": ttl_ms, "id": lease, "kind": kind}
        body = msgspec.json.encode({name: value for name, value in given.items() if value is not None})
        return await self._transport.fetch(Call("POST", "/leases", body=body), Lease)

    async def list(self) -> tuple[Lease, ...]:
        """All leases."""
        answer = await self._transport.fetch(Call("GET", "/leases"), Any)
        rows = answer.get("leases") if isinstance(answer, dict) else answer
        try:
            return msgspec.convert(rows, tuple[Lease, ...])
        except msgspec.ValidationError as error:
            raise PeerMisbehaved(f"not a list of leases: {error}") from error

    async def get(self, lease: str) -> Lease:
        """One lease. Raises ``LeaseNotFound``."""
        return await self._transport.fetch(Call("GET", f"/leases/{part(lease)}"), Lease)

    async def renew(self, lease: str) -> Lease:
        """Extend one. Raises ``LeaseNotFound``: register again."""
        return await self._transport.fetch(Call("PUT", f"/leases/{part(lease)}"), Lease)

    async def revoke(self, lease: str) -> None:
        """End it and what hangs on it. Raises ``LeaseNotFound``."""
        await self._transport.call(Call("DELETE", f"/leases/{part(lease)}"))
