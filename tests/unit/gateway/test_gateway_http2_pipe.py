"""The pipe between an outbox of HTTP/2 and a transport."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway_support import run

from townhall.gateway.http2_pipe import Http2Pipe
from townhall.model import limits
from townhall.wire.http2 import Http2Limits
from townhall.wire.http2 import frames as f
from townhall.wire.http2.requester import Requested, Requester


class Transport(asyncio.Transport):
    """Remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == limits.PROXY_BUFFER_SIZE_MAX

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Nobody:
    """A sink that is not asked."""

    def answered(self, stream: Requested, status: int, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None: ...

    def data(self, stream: Requested, data: bytes, *, ended: bool) -> None: ...

    def trailers(self, stream: Requested, fields: list[tuple[bytes, bytes]]) -> None: ...

    def lost(self, stream: Requested, why: str, *, unprocessed: bool) -> None: ...

    def writable(self, stream: object) -> None: ...


def connected() -> tuple[Http2Pipe[Requester], Transport, Requested]:
    """A pipe whose greeting is written, and one stream with a head that is said."""
    pipe = Http2Pipe(Requester(Http2Limits(), Nobody(), limits.PROXY_BUFFER_SIZE_MAX), asyncio.get_running_loop())
    transport = Transport()
    pipe._attach(transport)
    stream = pipe.wire.open()
    pipe.outbox.begin(stream, f.block([(b":method", b"POST")], ends=False))
    pipe._flush()
    transport.written.clear()
    return pipe, transport, stream


def test_what_is_said_in_one_turn_goes_out_together() -> None:
    async def main() -> None:
        pipe, transport, stream = connected()
        for part in (b"one", b"two", b"three"):
            pipe.outbox.send(stream, part)
            pipe.say()
        assert not transport.written
        await asyncio.sleep(0)
        (written,) = transport.written
        assert [part in written for part in (b"one", b"two", b"three")] == [True] * 3

    run(main())


def test_what_the_socket_does_not_take_waits() -> None:
    async def main() -> None:
        pipe, transport, stream = connected()
        pipe.pause_writing()
        pipe.outbox.send(stream, b"later")
        pipe.say()
        await asyncio.sleep(0)
        assert not transport.written
        assert pipe.outbox.unsent == 5
        pipe.resume_writing()
        assert b"later" in b"".join(transport.written)
        assert pipe.outbox.unsent == 0

    run(main())


def test_it_closes_when_the_last_stream_has_ended_and_no_more_come() -> None:
    async def main() -> None:
        pipe, transport, stream = connected()
        pipe.wire.leaving = True
        pipe._flush()
        assert not transport.closed
        pipe.wire.cancel(stream)
        pipe._flush()
        assert transport.closed
        # Nothing is written to what is closed, and nothing is kept for it.
        transport.written.clear()
        pipe.outbox.out.append(b"late")
        pipe._flush()
        assert not transport.written
        assert not pipe.outbox.out

    run(main())
