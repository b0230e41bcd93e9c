"""The documents of interfaces in the registry: one key for each revision, which stays while somebody provides it.

Below ``townhall/interfaces/`` in the space ``native`` lies each document once, however many instances have it. The key
hangs on a lease of its own, which the first provider grants and every provider of that revision renews; when none is
left to renew it, the lease ends after ``CLIENT_INTERFACES_TTL_MS`` and the registry removes the key by itself. So there
is nobody who must clean up, and no provider's end takes away what the others need.

Whoever may write these keys can put anything there. Readers check the hash, and providers put their document right
again the next time they look.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable

from townhall.client.api import Registry
from townhall.client.backoff import Backoff
from townhall.client.interfaces import Interfaces
from townhall.client.transport import Call, part
from townhall.model import limits
from townhall.model.errors import Conflict, LeaseNotFound, NotFound, PeerMisbehaved, TownhallError
from townhall.model.lease import LeaseKind

__all__ = ["PREFIX", "InterfaceStore", "Publisher"]

PREFIX = "townhall/interfaces/"
_log = logging.getLogger("townhall.client")


class InterfaceStore:
    """Reading and writing them, once each. Raises what every call of the API raises."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._verified: dict[str, int] = {}
        """Revision → the ``mod_revision`` of its key at which its bytes were found right."""

    async def fetch(self, revision: str) -> Interfaces:
        """The document. Raises ``NotFound``, or ``PeerMisbehaved`` when what lies there is another."""
        size_max = limits.CLIENT_INTERFACES_SIZE_MAX
        call = Call("GET", f"/kv/{part(PREFIX + revision, keep='/')}", [("raw", "")], size_max=size_max)
        return Interfaces.read((await self._registry.transport.call(call)).body, revision)

    async def keep(self, interfaces: Interfaces) -> None:
        """See to it that the document lies there for another ``CLIENT_INTERFACES_TTL_MS``."""
        key = PREFIX + interfaces.revision
        found = await self._registry.kv.list(key, keys_only=True, limit=1)
        present = found.keys[0] if found.keys and found.keys[0].key == key else None
        if present is None:
            await self._put(key, interfaces, cas=0)
            return
        try:
            if present.mod_revision != self._verified.get(interfaces.revision):
                await self.fetch(interfaces.revision)
                self._verified[interfaces.revision] = present.mod_revision
            if present.lease is None:
                return  # an operator's, and here to stay
            await self._registry.leases.renew(present.lease)
        except PeerMisbehaved as error:
            _log.warning("the interfaces in the registry are not ours and are put right: %s", error)
            await self._put(key, interfaces, cas=present.mod_revision)
        except (NotFound, LeaseNotFound):
            await self._put(key, interfaces, cas=0)  # it has just ended

    async def _put(self, key: str, interfaces: Interfaces, *, cas: int) -> None:
        lease = (await self._registry.leases.grant(ttl_ms=limits.CLIENT_INTERFACES_TTL_MS, kind=LeaseKind.KEYS)).lease
        try:
            written = await self._registry.kv.put(key, interfaces.data, lease=lease, cas=cas)
        except Conflict:
            # Another provider was faster; what it wrote is looked at the next time.
            await self._registry.leases.revoke(lease)
            return
        self._verified[interfaces.revision] = written.revision


class Publisher:
    """Keeps the documents of one provider in the registry, for as long as ``run`` runs."""

    def __init__(self, store: InterfaceStore, documents: Iterable[Interfaces]) -> None:
        self._store = store
        self._documents = tuple(dict.fromkeys(documents))
        self._wake = asyncio.Event()

    async def once(self) -> TownhallError | None:
        """Store or prolong all; returns what went wrong last, which is logged as well."""
        failed = None
        for one in self._documents:
            try:
                await self._store.keep(one)
            except TownhallError as error:
                failed = error
        return failed

    def wake(self) -> None:
        """Look now: the registry has forgotten us, so perhaps the documents too."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. The service does not depend on it: who misses a document calls us all the same."""
        backoff = Backoff(ceiling_ms=limits.CLIENT_BACKOFF_MAX_MS)
        told = ""
        while True:
            self._wake.clear()
            failed = await self.once()
            if failed is None:
                backoff.reset()
                told = ""
                # Two looks may be lost before the lease ends; jitter only shortens.
                pause_s = limits.CLIENT_INTERFACES_TTL_MS / 3000 * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load
            else:
                pause_s = backoff.next_s()
                if told != failed.code:
                    told = failed.code
                    _log.warning("our interfaces cannot be stored in the registry yet: %s", failed)
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
