"""A registry in memory for tests of the SDK: the native API in small, with switches for everything that can go wrong.

It runs in the test's own event loop on a free loopback port. It can go away and come back (with or without its
memory), forget leases, break streams, refuse or delay requests, and send garbage.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncio_servers

Json = dict[str, Any]


@dataclass
class Asked:
    """One request that came."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]

    def one(self, name: str, default: str = "") -> str:
        return next(iter(self.all(name)), default)


class Refusal(Exception):
    def __init__(self, status: int, code: str, detail: str = "no") -> None:
        super().__init__(detail)
        self.status = status
        self.problem = {"status": status, "code": code, "detail": detail, "advice": "", "title": code}


@dataclass
class Faults:
    """What goes wrong."""

    delay_s: float = 0.0
    garbage: bytes | None = None
    """Sent instead of any answer, and the connection closed."""
    refuse: Callable[[Asked], Refusal | None] = lambda asked: None
    swallow: Callable[[Asked], bool] = lambda asked: False
    """The request is carried out and the connection closed without an answer."""
    silent_session: bool = False
    """Sessions are welcomed and then never answered."""


@dataclass
class FakeRegistry:
    port: int = 0
    ttl_ms: int = 15_000
    faults: Faults = field(default_factory=Faults)
    asked: list[Asked] = field(default_factory=list)
    position: int = 0
    instances: dict[tuple[str, str, str], dict[str, Json]] = field(default_factory=dict)
    gone: dict[tuple[str, str, str], dict[str, int]] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    acknowledged: list[Json] = field(default_factory=list)
    reports: list[Json] = field(default_factory=list)
    sessions: list[asyncio.StreamWriter] = field(default_factory=list)
    session_lines: list[Json] = field(default_factory=list)
    broken_sessions: int = 0
    history: str = ""
    keys: dict[str, Json] = field(default_factory=dict)
    """The native space: value (bytes), mod_revision and lease of each key."""
    canned: dict[tuple[str, str], Any] = field(default_factory=dict)
    """(method, path) → the JSON to answer, or a ``Refusal``; before everything else."""

    async def __aenter__(self) -> FakeRegistry:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Go away: nothing listens, and all connections break."""
        await asyncio_servers.close(self._server)
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self.sessions.clear()

    async def forget_everything(self) -> None:
        """Start over with an empty journal, as a registry that keeps nothing does."""
        self.instances.clear()
        self.gone.clear()
        self.leases.clear()
        self.keys.clear()
        self.position = 0

    def break_streams(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def forget_leases(self) -> None:
        """End all leases and what hangs on them."""
        for key, members in self.instances.items():
            for instance_id in [one for one, content in members.items() if content["lease"] in self.leases]:
                await self.remove(key, instance_id)
        forgotten = list(self.leases)
        self.leases.clear()
        for writer in self.sessions:
            writer.write(_chunk(json.dumps({"forgotten": forgotten}).encode() + b"\n"))

    # --- the catalogue

    async def put(self, service: str, instance_id: str, **fields: Any) -> Json:
        """Register or change an instance from behind."""
        key = ("default", "default", service)
        before = self.instances.get(key, {}).get(instance_id, {})
        base = {
            "id": instance_id, "service": service, "namespace": "default", "group": "default", "address": "127.0.0.1", "port": 1,
            "weight": 1.0, "metadata": {}, "tags": [], "verdict": "up", "callable": True, "lease": None, "incarnation": 0,
        }  # fmt: skip
        return await self._store(key, {**base, **before, **fields})

    async def remove(self, key: tuple[str, str, str] | str, instance_id: str) -> None:
        key = ("default", "default", key) if isinstance(key, str) else key
        if self.instances.get(key, {}).pop(instance_id, None) is not None:
            self.position += 1
            self.gone.setdefault(key, {})[instance_id] = self.position
            await self._wake()

    async def _store(self, key: tuple[str, str, str], content: Json) -> Json:
        self.position += 1
        content["revision"] = self.position
        content["incarnation"] = content["incarnation"] or self.position
        self.instances.setdefault(key, {})[content["id"]] = content
        self.gone.setdefault(key, {}).pop(content["id"], None)
        await self._wake()
        return content

    def revision(self, key: tuple[str, str, str]) -> int:
        revisions = [one["revision"] for one in self.instances.get(key, {}).values()]
        return max([*revisions, *self.gone.get(key, {}).values()], default=0)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # --- HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            # Cancelled by ``stop``, which waits for it: asyncio's streams complain about a handler that ends cancelled.
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                while await self._one(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        parts = urlsplit(target)
        asked = Asked(
            method, parts.path.removeprefix("/api/v1"), parse_qsl(parts.query, keep_blank_values=True), headers, b""
        )
        if headers.get("transfer-encoding") != "chunked":
            asked.body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(asked)
        if self.faults.delay_s:
            await asyncio.sleep(self.faults.delay_s)
        if self.faults.garbage is not None:
            writer.write(self.faults.garbage)
            await writer.drain()
            return False
        refusal = self.faults.refuse(asked)
        if refusal is None:
            try:
                if asked.path == "/watch":
                    await self._watch(asked, writer)
                    return False
                if asked.path == "/session":
                    await self._session(reader, writer)
                    return False
                status, answer = await self._route(asked)
            except Refusal as error:
                refusal = error
        if refusal is not None:
            status, answer = refusal.status, refusal.problem
        if self.faults.swallow(asked):
            return False
        body = b"" if status == 204 else answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        framing = "" if status == 204 else f"content-length: {len(body)}\r\n"
        writer.write(f"HTTP/1.1 {status} X\r\nx-townhall-revision: {self.position}\r\n{framing}\r\n".encode() + body)
        await writer.drain()
        return True

    async def _route(self, asked: Asked) -> tuple[int, Any]:  # noqa: C901, PLR0912 - a table
        parts = [unquote(one) for one in asked.path.split("/")[1:]]
        key = (asked.one("namespace", "default"), asked.one("group", "default"), parts[1] if len(parts) > 1 else "")
        if (asked.method, asked.path) in self.canned:
            answer = self.canned[asked.method, asked.path]
            if isinstance(answer, Refusal):
                raise answer
            return 204 if answer is None else 200, answer
        if parts[0] == "kv":
            return self._keys(asked, "/".join(parts[1:]))
        body: Json = json.loads(asked.body) if asked.body else {}
        match asked.method, parts:
            case "POST", ["instances"]:
                return 201, await self._register(body)
            case "POST", ["instances", "batch"]:
                return 200, {"results": [await self._try(self._register(one)) for one in body["instances"]]}
            case "POST", ["deregister"]:
                return 200, {"results": [await self._try(self._deregister(one)) for one in body["instances"]]}
            case "POST", ["renew"]:
                unknown = [one for one in body["leases"] if one not in self.leases]
                return 200, {"renewed": len(body["leases"]) - len(unknown), "unknown": unknown}
            case "POST", ["leases"]:
                lease = str(5000 + len(self.leases) + self.position)
                self.leases[lease] = body["ttl_ms"]
                return 201, {"lease": lease, "ttl_ms": body["ttl_ms"]}
            case "PUT", ["leases", lease] if lease in self.leases:
                return 200, {"lease": lease, "ttl_ms": self.leases[lease]}
            case "DELETE", ["leases", lease] if lease in self.leases:
                self.end_lease(lease)
                return 204, None
            case "PUT" | "DELETE", ["leases", lease]:
                raise Refusal(404, "lease_not_found", f"lease {lease}")
            case "POST", ["reports"]:
                self.reports.append(body)
                return 200, {"accepted": len(body["failures"]), "unknown": []}
            case "POST", ["watch", _, "ack"]:
                self.acknowledged.append(
                    {name.rpartition("/")[2]: revision for name, revision in body["services"].items()}
                )
                return 204, None
            case "GET", ["services", _, "instances"]:
                return 200, self._view(key)
            case "GET", ["services", _, "instances", instance_id]:
                return 200, self._find(key, instance_id)
            case "PATCH", ["services", _, "instances", instance_id]:
                found = self._find(key, instance_id)
                merged = {**found["metadata"], **body.pop("metadata", {})}
                body.pop("incarnation", None)
                body["metadata"] = {name: value for name, value in merged.items() if value is not None}
                return 200, await self._store(key, {**found, **body})
            case "PUT", ["services", _, "instances", instance_id, "health"]:
                ill = body["status"] == "critical"
                word = {"verdict": "down" if ill else "up", "callable": not ill, "reason": body["output"]}
                return 200, await self._store(key, {**self._find(key, instance_id), **word})
            case "POST", ["services", _, "instances", instance_id, "drain"]:
                found = self._find(key, instance_id)
                await self._store(key, {**found, "verdict": "draining", "callable": False})
                return 202, {"service": key[2], "id": instance_id, "state": "draining", "waiting_for": ["x"]}
            case "GET", ["services", _, "instances", instance_id, "drain"]:
                seen = any(acked.get(key[2], 0) >= self.revision(key) for acked in self.acknowledged)
                state = "complete" if seen or not asked.one("wait") else "draining"
                if state == "draining":
                    await asyncio.sleep(0.02)
                return 200, {"service": key[2], "id": instance_id, "state": state, "waiting_for": [] if seen else ["x"]}
        raise Refusal(404, "not_found", f"{asked.method} {asked.path}")

    def end_lease(self, lease: str) -> None:
        """It ends, and the keys on it."""
        del self.leases[lease]
        self.keys = {name: one for name, one in self.keys.items() if one["lease"] != lease}

    def _keys(self, asked: Asked, name: str) -> tuple[int, Any]:
        shown = {"version": 1, "create_revision": 1}
        present = self.keys.get(name)
        if not name:
            rows = [
                {"key": key, "mod_revision": one["mod_revision"], "lease": one["lease"], **shown}
                for key, one in sorted(self.keys.items())
                if key.startswith(asked.one("prefix"))
            ]
            return 200, {"revision": self.position, "count": len(rows), "keys": rows[: int(asked.one("limit", "100"))]}
        if asked.method == "GET":
            if present is None:
                raise Refusal(404, "not_found", f"no key {name}")
            return 200, present["value"]
        if asked.one("cas") and int(asked.one("cas")) != (present["mod_revision"] if present else 0):
            raise Refusal(409, "conflict", "changed meanwhile")
        self.position += 1
        self.keys[name] = {"value": asked.body, "mod_revision": self.position, "lease": asked.one("lease") or None}
        return 200, {"revision": self.position, "created": present is None}

    async def _try(self, step: Any) -> Json:
        try:
            return await step  # type: ignore[no-any-return]
        except Refusal as error:
            return {"error": error.problem}

    def _find(self, key: tuple[str, str, str], instance_id: str) -> Json:
        found = self.instances.get(key, {}).get(instance_id)
        if found is None:
            raise Refusal(404, "not_found", f"no instance {instance_id}")
        return found

    async def _register(self, body: Json) -> Json:
        if not 0 < body.get("port", 0) < 65_536:
            raise Refusal(400, "invalid_field", "port: out of range")
        key = (body.get("namespace", "default"), body.get("group", "default"), body["service"])
        lease = body.get("lease")
        if lease is None:
            lease = str(1000 + len(self.leases) + self.position)
            self.leases[lease] = body.get("ttl_ms") or self.ttl_ms
        elif lease not in self.leases:
            raise Refusal(404, "lease_not_found")
        before = self.instances.get(key, {}).get(body["id"], {})
        incarnation = before["incarnation"] if before.get("claim") == body["claim"] else 0
        shown = {name: value for name, value in body.items() if name not in ("ttl_ms", "ready")}
        ready = body.get("ready", True)
        base = {"verdict": "up" if ready else "starting", "callable": ready, "weight": 1.0, "metadata": {}, "tags": []}
        stored = await self._store(key, {**base, **shown, "lease": lease, "incarnation": incarnation})
        return {
            "instance": stored, "lease": lease, "ttl_ms": self.leases[lease], "incarnation": stored["incarnation"],
            "revision": self.position,
        }  # fmt: skip

    async def _deregister(self, body: Json) -> Json:
        key = (body.get("namespace", "default"), body.get("group", "default"), body["service"])
        found = self._find(key, body["id"])
        if body.get("claim", found.get("claim")) != found.get("claim"):
            raise Refusal(409, "fenced", "another claim")
        await self.remove(key, body["id"])
        return {"removed": True}

    def _view(self, key: tuple[str, str, str]) -> Json:
        members = list(self.instances.get(key, {}).values())
        return {
            "service": key[2],
            "namespace": key[0],
            "group": key[1],
            "revision": self.revision(key),
            "instances": members,
        }

    # --- streams

    async def _watch(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        keys = [tuple(one.split("/")) if "/" in one else ("default", "default", one) for one in asked.all("service")]
        resume = int(asked.headers["last-event-id"]) if "last-event-id" in asked.headers else None
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        seen = {}
        for key in keys:
            seen[key] = self.revision(key)
            if resume is None or not seen[key] <= resume <= self.position:
                self._event(writer, "snapshot", self._view(key))
        ready = {"revision": self.position, "subscriber": f"sub-{len(self.asked)}", "history": self.history}
        self._event(writer, "ready", ready)
        while True:
            for key in keys:
                if self.revision(key) != seen[key]:
                    self._event(writer, "delta", self._delta(key, seen[key]))
                    seen[key] = self.revision(key)
            await writer.drain()
            async with self._changed:
                await self._changed.wait()

    def _delta(self, key: tuple[str, str, str], after: int) -> Json:
        changed = [one for one in self.instances.get(key, {}).values() if one["revision"] > after]
        removed = [one for one, revision in self.gone.get(key, {}).items() if revision > after]
        draining = any(one["verdict"] == "draining" for one in changed)
        return {
            "service": key[2], "namespace": key[0], "group": key[1], "revision": self.revision(key), "changed": changed,
            "removed": removed, "ack": draining,
        }  # fmt: skip

    def _event(self, writer: asyncio.StreamWriter, name: str, data: Json) -> None:
        writer.write(_chunk(f"id: {self.position}\nevent: {name}\ndata: {json.dumps(data)}\n\n: hb\n\n".encode()))

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions.append(writer)
        clean = False
        try:
            async for line in _lines(reader):
                self.session_lines.append(line)
                if "hello" in line:
                    unknown = [one for one in line["hello"]["leases"] if one not in self.leases]
                    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                    writer.write(
                        _chunk(json.dumps({"welcome": {"ttl_ms_min": 1, "unknown": unknown}}).encode() + b"\n\n")
                    )
                elif "renew" in line and not self.faults.silent_session:
                    writer.write(_chunk(json.dumps({"renewed": 1, "unknown": []}).encode() + b"\n"))
                elif "bye" in line:
                    clean = True
                    return
                await writer.drain()
        finally:
            self.broken_sessions += not clean
            if writer in self.sessions:
                self.sessions.remove(writer)


async def _lines(reader: asyncio.StreamReader) -> Any:
    buffer = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        buffer += (await reader.readexactly(size + 2))[:-2]
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            yield json.loads(line)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def until(condition: Callable[[], object], deadline_s: float = 120.0) -> None:
    """Poll until it holds."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - the condition is any
            await asyncio.sleep(0.005)
