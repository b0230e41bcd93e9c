"""Keys: get, range, put, delete, compare-and-set, transactions and watches, in the space ``native`` unless told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import msgspec

from townhall.client.records import JsonObject, Key, Keys, Written
from townhall.client.streams import EventStream
from townhall.client.transport import Call, Transport, part, query_of

__all__ = ["KeySpace", "PutOptions", "RangeOptions"]


class PutOptions(TypedDict, total=False):
    """How a key is written."""

    lease: str
    """It goes when this lease ends."""
    cas: int
    """Only while its ``mod_revision`` is this; 0 for a key that must not exist."""
    create: bool
    """Only when it does not exist."""


class RangeOptions(TypedDict, total=False):
    """Which keys of a prefix."""

    limit: int
    start: str
    """Begin after this key: the last one of the page before."""
    keys_only: bool


class KeySpace:
    """``Registry.kv``. Raises what every call of the API raises."""

    def __init__(self, transport: Transport, space: str = "") -> None:
        self._transport = transport
        self._space = space

    def space(self, name: str) -> KeySpace:
        """The same calls in another space (``etcd``, ``consul``, ``zookeeper``)."""
        return KeySpace(self._transport, name)

    async def get(self, key: str, *, revision: int | None = None) -> Key:
        """One key, at a revision of its space if given. Raises ``NotFound``, ``Compacted``."""
        return await self._transport.fetch(self._call("GET", key, query_of(revision=revision)), Key)

    async def get_raw(self, key: str) -> bytes:
        """The value's bytes. Raises ``NotFound``."""
        return (await self._transport.call(self._call("GET", key, [("raw", "")]))).body

    async def wait(self, key: str, *, after: int, wait_ms: int) -> Key:
        """The key once its space passed revision ``after`` with a change of it, or at the deadline."""
        call = self._call("GET", key, query_of(after=after, wait=wait_ms))
        call = Call(call.method, call.path, call.query, budget_s=self._transport.budget_s + wait_ms / 1000)
        return await self._transport.fetch(call, Key)

    async def list(self, prefix: str = "", **options: Unpack[RangeOptions]) -> Keys:
        """The keys that begin with ``prefix``, in order."""
        query = [("prefix", prefix), *query_of(**options)]
        return await self._transport.fetch(self._call("GET", None, query), Keys)

    async def put(self, key: str, value: bytes | str, **options: Unpack[PutOptions]) -> Written:
        """Write one key. Raises ``Conflict`` when a condition does not hold."""
        data = value.encode() if isinstance(value, str) else value
        # Whether a conditional write was made cannot be found out by making it again.
        repeatable = "cas" not in options and not options.get("create", False)
        return await self._transport.fetch(self._call("PUT", key, query_of(**options), data, repeatable), Written)

    async def delete(self, key: str, *, cas: int | None = None) -> Written:
        """Remove one key; ``deleted`` is 0 when it was not there. Raises ``Conflict``."""
        return await self._transport.fetch(self._call("DELETE", key, query_of(cas=cas)), Written)

    async def delete_prefix(self, prefix: str) -> Written:
        """Remove all keys that begin with ``prefix``."""
        return await self._transport.fetch(self._call("DELETE", None, [("prefix", prefix)]), Written)

    async def transaction(
        self,
        *,
        compares: Sequence[JsonObject] = (),
        success: Sequence[JsonObject] = (),
        failure: Sequence[JsonObject] = (),
    ) -> JsonObject:
        """If all compares hold do ``success``, else ``failure``; the objects are those of the native API."""
        content: JsonObject = {"compares": list(compares), "success": list(success), "failure": list(failure)}
        if self._space:
            content["space"] = self._space
        return await self._transport.fetch(Call("POST", "/txn", body=msgspec.json.encode(content)), dict[str, Any])

    async def compact(self, revision: int) -> None:
        """Forget the history before ``revision``."""
        content: JsonObject = {"revision": revision}
        if self._space:
            content["space"] = self._space
        await self._transport.call(Call("POST", "/kv-compact", body=msgspec.json.encode(content), repeatable=True))

    async def watch(self, prefix: str = "", *, after: int | None = None) -> EventStream:
        """Changes of the keys under a prefix: ``put`` and ``delete`` events; see ``EventStream.objects``."""
        query = [("prefix", prefix), ("watch", "1"), *query_of(after=after)]
        return EventStream(await self._transport.stream(self._call("GET", None, query)))

    def _call(
        self,
        method: str,
        key: str | None,
        query: Sequence[tuple[str, str]],
        body: bytes = b"",
        repeatable: bool | None = None,
    ) -> Call:
        path = "/kv" if key is None else f"/kv/{part(key, keep='/')}"
        headers = {"content-type": "application/octet-stream"} if body else {}
        pairs = [*query_of(space=self._space), *query]
        return Call(method, path, pairs, body=body, headers=headers, repeatable=repeatable)
