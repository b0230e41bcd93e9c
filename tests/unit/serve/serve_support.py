"""A small hub and face to serve without the rest of the house, and a raw client."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from townhall.core import Outcome
from townhall.face import Duplex, EndOfStream, Park, Pulled, Reply, Request, Route, Stream, Submit
from townhall.model.access import Actor
from townhall.model.errors import Malformed, NotFound, TooLarge, TownhallError, Unauthenticated
from townhall.serve.options import HttpOptions
from townhall.serve.server import HttpServer

STATUS = {Malformed: 400, TooLarge: 413, NotFound: 404, Unauthenticated: 401}


class FakeView:
    def __init__(self) -> None:
        self.fresh = True


class FakeTicket:
    def __init__(self, hub: FakeHub, wake: Callable[[], None]) -> None:
        self.hub, self.wake, self.armed, self.pending = hub, wake, True, False
        self.since: dict[str, int] = {}
        hub.tickets.append(self)

    def touch(self) -> None:
        self.pending = True
        self.fire()

    def arm(self) -> None:
        self.armed = True
        self.fire()

    def fire(self) -> None:
        if self.armed and self.pending:
            self.armed = self.pending = False
            asyncio.get_running_loop().call_soon(self.call)

    def call(self) -> None:
        if self in self.hub.tickets:
            self.wake()

    def cancel(self) -> None:
        if self in self.hub.tickets:
            self.hub.tickets.remove(self)


class FakeSubscription:
    def __init__(self) -> None:
        self.revisions: dict[Any, int] = {}
        self.closed = 0

    def sent(self, revisions: Mapping[Any, int]) -> None:
        self.revisions.update(revisions)

    def close(self) -> None:
        self.closed += 1


class FakeHub:
    """Commands are strings; ``hold`` keeps their outcomes back; 'refuse' is refused."""

    def __init__(self) -> None:
        self.live: Any = self
        self.tickets: list[FakeTicket] = []
        self.subscriptions: list[FakeSubscription] = []
        self.submitted: list[Any] = []
        self.waiting: list[Callable[[], None]] = []
        self.hold = False
        self.secrets = {""}
        self.authentications = 0
        self.watch_error: TownhallError | None = None
        self.submit_error: TownhallError | None = None
        self.views: list[FakeView] = []
        self.position = 0

    def submit(self, command: Any, actor: Actor, done: Callable[[Any], None]) -> None:
        if self.submit_error is not None:
            raise self.submit_error
        self.submitted.append(command)
        self.position += 1
        position = self.position

        def finish() -> None:
            done(NotFound("no such thing") if command == "refuse" else Outcome(position, 0, (), command))

        if self.hold:
            self.waiting.append(finish)
        else:
            asyncio.get_running_loop().call_soon(finish)

    def release(self) -> None:
        waiting, self.waiting = self.waiting, []
        for finish in waiting:
            finish()

    def reader(self, actor: Actor) -> Any:
        self.actor = actor
        return self

    def authenticate(self, secret: str, address: str, certified: tuple[str, str] = ("", "")) -> Actor:
        self.certified = certified
        self.authentications += 1
        if secret not in self.secrets:
            raise Unauthenticated("unknown token")
        return Actor(token_id=secret, address=address)

    def watch(self, interests: Sequence[Any], wake: Callable[[], None]) -> FakeTicket:
        if self.watch_error is not None:
            raise self.watch_error
        return FakeTicket(self, wake)

    def subscribe(self, subscriber: Any, services: Sequence[Any]) -> FakeSubscription:
        self.subscriptions.append(FakeSubscription())
        return self.subscriptions[-1]

    def view(self) -> FakeView:
        self.views.append(FakeView())
        return self.views[-1]

    def change(self) -> None:
        self.position += 1
        for view in self.views:
            view.fresh = False
        self.views.clear()
        for ticket in list(self.tickets):
            ticket.touch()


class FakeFace:
    """Routes for everything a driver can be asked for. ``calls`` names what handlers were called with."""

    name = "fake"

    def __init__(self) -> None:
        self.calls: list[Request] = []
        self.ready: Reply | None = None
        self.pulled: list[Pulled | Exception | None] = []
        self.stream = Stream((), self.pull, leaving=b"leaving\n")
        self.received: list[bytes] = []
        self.closed: list[bool] = []
        self.steps: Callable[[bytes], Any] = lambda data: [b"<" + data + b">"]
        self.wait_ms = 60_000
        self.outlives = False
        self.ended: Callable[[], None] | None = None
        self.parked: Park | None = None
        self.then: Park | None = None
        """What comes after a Submit, instead of a Reply."""
        self.routes = [
            Route("GET", "/hello", self.hello),
            Route("GET", "/names/{name}", self.echo),
            Route("GET", "/keys/{key...}", self.echo),
            Route("POST", "/echo", self.echo, body_size_max=100_000),
            Route("POST", "/small", self.echo, body_size_max=10),
            Route("GET", "/cached", self.cached),
            Route("GET", "/large/{size}", self.large),
            Route("GET", "/broken", self.broken),
            Route("GET", "/broken-head", lambda r, _: Reply(200, headers=((b"X", b"a\r\nb"),))),
            Route("GET", "/refused", self.refused),
            Route("GET", "/nonsense", lambda r, _: 5),  # type: ignore[arg-type,return-value]
            Route("GET", "/empty", lambda r, _: Reply(204)),
            Route("POST", "/submit", self.submit),
            Route("GET", "/park", self.park),
            Route("GET", "/stream", lambda r, _: self.stream),
            Route("POST", "/duplex", self.duplex, duplex=True),
        ]

    def hello(self, request: Request, reader: Any) -> Reply:
        self.calls.append(request)
        return Reply(200, b'{"hello":"world"}')

    def echo(self, request: Request, reader: Any) -> Reply:
        self.calls.append(request)
        text = f"{request.method} {request.path} {dict(request.segments)} {dict(request.query)} ".encode()
        return Reply(200, text + request.body, (), b"text/plain")

    def cached(self, request: Request, reader: Any) -> Reply:
        self.calls.append(request)
        return Reply(200, b"at %d " % reader.position + b"x" * 2000, view=reader.view())

    def large(self, request: Request, reader: Any) -> Reply:
        return Reply(200, b"z" * int(request.segments["size"]), (), b"application/octet-stream")

    def broken(self, request: Request, reader: Any) -> Reply:
        raise RuntimeError("a bug")

    def refused(self, request: Request, reader: Any) -> Reply:
        raise NotFound("no such thing")

    def submit(self, request: Request, reader: Any) -> Submit:
        def render(reader: Any, results: Sequence[Any]) -> Reply | Park:
            texts = [r.code if isinstance(r, TownhallError) else f"{r.result}@{r.position}" for r in results]
            return self.then or Reply(200, ",".join(texts).encode(), (), b"text/plain")

        return Submit(request.body.decode("latin-1").split(), render, self.unheard)  # type: ignore[arg-type]

    def unheard(self, results: Sequence[Any]) -> Sequence[Any]:
        return [f"undo {result.result}" for result in results if not isinstance(result, TownhallError)]

    def park(self, request: Request, reader: Any) -> Park:
        def attempt(reader: Any, expired: bool) -> Reply | None:
            return Reply(200, b"expired", (), b"text/plain") if expired and self.ready is None else self.ready

        return self.parked or Park((), attempt, self.wait_ms)

    def pull(self, reader: Any) -> Pulled | None:
        step = self.pulled.pop(0) if self.pulled else None
        if isinstance(step, Exception):
            raise step
        return step

    def duplex(self, request: Request, reader: Any) -> Duplex | Reply:
        if "refuse" in request.query:
            return Reply(403, b"no", (), b"text/plain")
        return Duplex(self.stream, self.receive, self.gone, outlives_input=self.outlives, ended=self.ended)

    def receive(self, reader: Any, data: bytes) -> Sequence[bytes | Submit]:
        self.received.append(data)
        steps: Sequence[bytes | Submit] = self.steps(data)
        return steps

    def gone(self, clean: bool) -> Sequence[Any]:
        self.closed.append(clean)
        return ["gone"]

    def credentials(self, headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> str:
        return headers.get("x-token", "")

    def error(self, error: TownhallError, request: Request | None) -> Reply:
        return Reply(STATUS.get(type(error), 500), f"{error.code}: {error}".encode(), (), b"text/plain")

    def no_route(self, method: str, path: str, allowed: Sequence[str]) -> Reply:
        if allowed:
            return Reply(405, b"", ((b"Allow", ", ".join(allowed).encode()),))
        return Reply(404, b"no such path", (), b"text/plain")


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A raw connection: what is sent is exactly these bytes; answers are read strictly."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> Answer:
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 120)
        lines = raw[:-4].split(b"\r\n")
        version, status, _ = lines[0].split(b" ", 2)
        assert version == b"HTTP/1.1"
        fields = [line.split(b": ", 1) for line in lines[1:]]
        headers = {name.decode().lower(): value.decode() for name, value in fields}
        assert len(headers) == len(fields), f"a field came twice: {lines}"
        return Answer(int(status), headers, b"")

    async def answer(self, *, bodyless: bool = False) -> Answer:
        answer = await self.head()
        if bodyless or answer.status < 200 or answer.status in (204, 304):
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            while (part := await self.chunk()) is not None:
                answer.body += part
        elif "content-length" in answer.headers:
            answer.body = await asyncio.wait_for(self.reader.readexactly(int(answer.headers["content-length"])), 120)
        else:
            answer.body = await self.rest()
        return answer

    async def chunk(self) -> bytes | None:
        line = await asyncio.wait_for(self.reader.readuntil(b"\r\n"), 120)
        data = await asyncio.wait_for(self.reader.readexactly(int(line, 16) + 2), 120)
        assert data.endswith(b"\r\n")
        return data[:-2] or None

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), 120)
        except ConnectionResetError:
            return b""

    async def get(self, target: str, *fields: str) -> Answer:
        self.send(get(target, *fields))
        return await self.answer()

    def close(self) -> None:
        self.writer.close()

    def cut(self) -> None:
        """Reset the connection: the peer has crashed."""
        peer = self.writer.get_extra_info("socket")
        if not self.writer.transport.is_closing():
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def get(target: str, *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *fields, "", ""]).encode("latin-1")


def post(target: str, body: bytes, *fields: str) -> bytes:
    return get(target, f"Content-Length: {len(body)}", *fields, method="POST") + body


class Serving:
    """A server on a free loopback port with its fakes."""

    def __init__(self, **options: int) -> None:
        self.hub, self.face = FakeHub(), FakeFace()
        self.server = HttpServer(self.face, self.hub, HttpOptions(**options))  # type: ignore[arg-type]
        self.clients: list[Client] = []
        self.address = ("", 0)

    @property
    def counters(self) -> Any:
        return self.server.counters

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection(*self.address))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes) -> Answer:
        client = await self.client()
        client.send(data)
        return await client.answer()


def serving(test: Callable[[Serving], Awaitable[None]], **options: int) -> None:
    """Run a test against a fresh server; nothing may be left behind afterwards."""

    async def run() -> None:
        serving = Serving(**options)
        serving.address = await serving.server.start("127.0.0.1", 0)
        try:
            await test(serving)
        finally:
            for client in serving.clients:
                client.cut()
            await serving.server.stop(0)
        assert serving.counters.open == serving.counters.parked == serving.counters.streams == 0
        assert not serving.hub.tickets
        assert all(subscription.closed == 1 for subscription in serving.hub.subscriptions)

    run_loop(run())


def run_loop(work: Any) -> None:
    """On uvloop where there is one, as the server runs."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


async def until(condition: Callable[[], object], within_s: float = 20) -> None:
    """Poll until something is so."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not become so"
        await asyncio.sleep(0.005)


END = EndOfStream
