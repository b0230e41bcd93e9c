"""A small gRPC face, a server for it beside the HTTP face of ``serve_support``, and a client that speaks frames."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import hpack
from serve_support import FakeFace, FakeHub, run_loop

from townhall.face import Duplex, Follow, Park, Pulled, Reply, Stream, Submit
from townhall.face.grpc import Call, Code, Kind, Method, framed
from townhall.model.errors import (
    Malformed,
    NotFound,
    OverLimit,
    Stopping,
    TownhallError,
    Unauthenticated,
)
from townhall.serve.calls import GrpcOptions
from townhall.serve.options import HttpOptions
from townhall.serve.server import HttpServer
from townhall.wire.http2 import PREFACE, Http2Limits, frames

STATUS = {
    Malformed: Code.INVALID_ARGUMENT,
    NotFound: Code.NOT_FOUND,
    OverLimit: Code.RESOURCE_EXHAUSTED,
    Unauthenticated: Code.UNAUTHENTICATED,
    Stopping: Code.UNAVAILABLE,
}


class ToyFace:
    """Methods for everything a driver of calls can be asked for. ``calls`` names what handlers were called with."""

    name = "toy"
    certified_space = "toys"

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.ready: Reply | None = None
        self.wait_ms = 60_000
        self.abandoned = 0
        self.pulled: list[Pulled | Exception | None] = []
        self.pulls = 0
        self.stream = Stream((("services", ""),), self.pull)
        self.received: list[bytes] = []
        self.knows: dict[bytes, bytes] = {}
        """What it knows by its framed bytes; without any it is not asked."""
        self.answered_again = 0
        """How many it answered because it knew them."""
        self.closed: list[bool] = []
        self.steps: Callable[[bytes], Any] = lambda message: [framed(b"<" + message + b">")]
        self.outlives_input = False
        self.methods = [
            Method("/toy.Toy/Echo", self.echo),
            Method("/toy.Toy/Small", self.echo, message_size_max=10),
            Method("/toy.Toy/Large", self.large),
            Method("/toy.Toy/Broken", self.broken),
            Method("/toy.Toy/Refused", self.refused),
            Method("/toy.Toy/Nonsense", lambda c, r: 5),  # type: ignore[arg-type,return-value]
            Method("/toy.Toy/Submit", self.submit),
            Method("/toy.Toy/Park", self.park),
            Method("/toy.Toy/Wrong", lambda c, r: self.stream),
            Method("/toy.Toy/Stream", lambda c, r: self.stream, Kind.SERVER_STREAM),
            Method("/toy.Toy/Chat", self.chat, Kind.DUPLEX),
            Method("/toy.Toy/Never", self.submit, Kind.DUPLEX),
        ]

    def echo(self, call: Call, reader: Any) -> Reply:
        self.calls.append(call)
        fields = ((b"x-note", b"noted"),) if "want-note" in call.metadata else ()
        return Reply(Code.OK, call.message, fields)

    def large(self, call: Call, reader: Any) -> Reply:
        return Reply(Code.OK, b"z" * int(call.message))

    def broken(self, call: Call, reader: Any) -> Reply:
        raise RuntimeError("a bug")

    def refused(self, call: Call, reader: Any) -> Reply:
        raise NotFound("no süch thing", advice="100% sure")

    def submit(self, call: Call, reader: Any) -> Submit:
        def render(reader: Any, results: Sequence[Any]) -> Reply:
            texts = [r.code if isinstance(r, TownhallError) else f"{r.result}@{r.position}" for r in results]
            return Reply(Code.OK, ",".join(texts).encode())

        return Submit(call.message.decode("latin-1").split(), render, self.unheard)  # type: ignore[arg-type]

    def unheard(self, results: Sequence[Any]) -> Sequence[Any]:
        return [f"undo {result.result}" for result in results if not isinstance(result, TownhallError)]

    def park(self, call: Call, reader: Any) -> Park:
        def attempt(reader: Any, expired: bool) -> Reply | None:
            return Reply(Code.OK, b"expired") if expired and self.ready is None else self.ready

        def abandoned() -> Sequence[Any]:
            self.abandoned += 1
            return ["abandoned"]

        return Park((), attempt, self.wait_ms, abandoned)

    def pull(self, reader: Any) -> Pulled | None:
        self.pulls += 1
        step = self.pulled.pop(0) if self.pulled else None
        if isinstance(step, Exception):
            raise step
        return step

    def chat(self, call: Call, reader: Any) -> Duplex | Reply:
        if "refuse" in call.metadata:
            return Reply(Code.PERMISSION_DENIED, b"no")
        again = self.again if self.knows else None
        return Duplex(self.stream, self.receive, self.gone, self.outlives_input, again=again)

    def receive(self, reader: Any, message: bytes) -> Sequence[Any]:
        self.received.append(message)
        steps: Sequence[Any] = self.steps(message)
        return steps

    def again(self, reader: Any) -> Callable[[bytes], bytes | None]:
        """The same as ``receive``, for what is in ``knows`` and is one answer."""

        def answer(message: bytes) -> bytes | None:
            known = self.knows.get(message)
            steps = self.steps(known) if known is not None else ()
            if known is None or len(steps) != 1 or not isinstance(steps[0], bytes):
                return None
            self.received.append(known)
            self.answered_again += 1
            return steps[0]

        return answer

    def gone(self, clean: bool) -> Sequence[Any]:
        self.closed.append(clean)
        return ["gone"]

    def credentials(self, metadata: Mapping[str, str]) -> str:
        return metadata.get("token", "")

    def error(self, error: TownhallError, call: Call | None) -> Reply:
        return Reply(STATUS.get(type(error), Code.UNKNOWN), str(error).encode())


class Answer:
    """What came on one stream so far."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.data = b""
        self.ended = False
        self.error: int | None = None
        """Of RST_STREAM."""

    @property
    def status(self) -> int:
        return int(self.fields["grpc-status"])

    @property
    def messages(self) -> list[bytes]:
        found, at = [], 0
        while at < len(self.data):
            size = int.from_bytes(self.data[at + 1 : at + 5], "big")
            found.append(self.data[at + 5 : at + 5 + size])
            at += 5 + size
        return found


class H2Client:
    """A raw HTTP/2 connection. It acknowledges SETTINGS and PINGs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.numbers = itertools.count(1, 2)
        self.answers: dict[int, Answer] = {}
        self.settings: dict[int, int] = {}
        self.frames: list[tuple[int, int, int, bytes]] = []
        """All that came: type, flags, stream, payload."""
        self.goaways: list[tuple[int, int]] = []
        self.closed = False
        self.generous = True
        """It takes whatever comes; otherwise it opens windows only when told to."""
        self.pongs = 0
        self._task = asyncio.ensure_future(self._read())

    async def begin(self, settings: dict[int, int] | None = None) -> H2Client:
        self.send(PREFACE + frames.settings(settings or {}))
        await self.until(lambda: self.settings)
        return self

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def head(self, path: str, *fields: tuple[str, str], method: str = "POST", kind: str = "application/grpc") -> bytes:
        pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test")]
        listed = [*pseudo, ("content-type", kind), ("te", "trailers"), *fields]
        block: bytes = self.encoder.encode(listed)
        return block

    def open(self, path: str, *fields: tuple[str, str], ends: bool = False, **more: str) -> int:
        """HEADERS; returns the stream's number."""
        number = next(self.numbers)
        self.answers[number] = Answer()
        block, kind, flags = self.head(path, *fields, **more), frames.HEADERS, frames.END_STREAM if ends else 0
        while len(block) > frames.FRAME_SIZE_MIN:
            self.send(frames.frame(kind, flags, number, block[: frames.FRAME_SIZE_MIN]))
            block, kind, flags = block[frames.FRAME_SIZE_MIN :], frames.CONTINUATION, 0
        self.send(frames.frame(kind, flags | frames.END_HEADERS, number, block))
        return number

    def data(self, number: int, data: bytes, *, ends: bool = False) -> None:
        self.send(frames.frame(frames.DATA, frames.END_STREAM if ends else 0, number, data))

    def start(self, path: str, message: bytes = b"", *fields: tuple[str, str]) -> int:
        """A call with its one message."""
        number = self.open(path, *fields)
        data = framed(message)
        while len(data) > frames.FRAME_SIZE_MIN:
            self.data(number, data[: frames.FRAME_SIZE_MIN])
            data = data[frames.FRAME_SIZE_MIN :]
        self.data(number, data, ends=True)
        return number

    async def call(self, path: str, message: bytes = b"", *fields: tuple[str, str]) -> Answer:
        return await self.ended(self.start(path, message, *fields))

    async def ended(self, number: int) -> Answer:
        answer = self.answers[number]
        await self.until(lambda: answer.ended)
        return answer

    async def until(self, condition: Callable[[], object], within_s: float = 20) -> None:
        end = asyncio.get_running_loop().time() + within_s
        while not condition():
            came = [(kind, flags, number, payload[:40]) for kind, flags, number, payload in self.frames[-20:]]
            assert asyncio.get_running_loop().time() < end, f"it did not become so; came: {came}"
            await asyncio.sleep(0.002)

    def close(self) -> None:
        self._task.cancel()
        self.writer.transport.abort()

    async def _read(self) -> None:
        try:
            while True:
                high, low, kind, flags, number = frames.head_of(await self.reader.readexactly(9))
                self._take(kind, flags, number, await self.reader.readexactly(high << 8 | low))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed = True

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self.frames.append((kind, flags, number, payload))
        answer = self.answers.setdefault(number, Answer())
        if kind == frames.HEADERS:
            assert flags & frames.END_HEADERS
            self._fields(answer, payload)
            answer.ended |= bool(flags & frames.END_STREAM)
        elif kind == frames.DATA:
            answer.data += payload
            if self.generous and payload:
                self.send(frames.window_update(0, len(payload)) + frames.window_update(number, len(payload)))
            answer.ended |= bool(flags & frames.END_STREAM)
        elif kind == frames.RST_STREAM:
            answer.error, answer.ended = int.from_bytes(payload, "big"), True
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            for at in range(0, len(payload), 6):
                self.settings[int.from_bytes(payload[at : at + 2], "big")] = int.from_bytes(
                    payload[at + 2 : at + 6], "big"
                )
            self.encoder.header_table_size = self.settings.get(1, 4096)
            self.send(frames.frame(frames.SETTINGS, frames.ACK, 0))
        elif kind == frames.PING:
            self.pongs += bool(flags & frames.ACK)
            if not flags & frames.ACK:
                self.send(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif kind == frames.GOAWAY:
            self.goaways.append((int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")))

    def _fields(self, answer: Answer, block: bytes) -> None:
        for name, value in self.decoder.decode(block):
            assert name not in answer.fields, f"{name} came twice"
            answer.fields[name] = value


class GrpcServing:
    """A server on a free loopback port with its fakes."""

    def __init__(self, *, http: bool = True, limits: dict[str, int] | None = None, **options: int) -> None:
        self.hub, self.face, self.http_face = FakeHub(), ToyFace(), FakeFace()
        self.server = HttpServer(
            self.http_face if http else None,
            self.hub,
            HttpOptions(**options),
            grpc=self.face,
            grpc_options=GrpcOptions(http2=Http2Limits(**(limits or {}))),
        )
        self.clients: list[H2Client] = []
        self.address = ("", 0)

    @property
    def counters(self) -> Any:
        return self.server.grpc_counters

    async def raw(self) -> H2Client:
        """Connected, and nothing said yet."""
        client = H2Client(*await asyncio.open_connection(*self.address))
        self.clients.append(client)
        return client

    async def client(self, settings: dict[int, int] | None = None) -> H2Client:
        return await (await self.raw()).begin(settings)


def follow(interest: Any, wake: Callable[[], None], name: object) -> Follow:
    return Follow(interest, wake, name)


def grpc_serving(test: Callable[[GrpcServing], Awaitable[None]], **options: Any) -> None:
    """Run a test against a fresh server; nothing may be left behind afterwards."""

    async def run() -> None:
        serving = GrpcServing(**options)
        serving.address = await serving.server.start("127.0.0.1", 0)
        try:
            await test(serving)
        finally:
            for client in serving.clients:
                client.close()
            await serving.server.stop(0)
        counters = serving.counters
        assert counters.open == counters.parked == counters.streams == 0
        assert not serving.hub.tickets
        assert all(subscription.closed == 1 for subscription in serving.hub.subscriptions)

    run_loop(run())
