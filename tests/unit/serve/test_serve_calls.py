"""The driver of calls: what handlers return reaches the client in gRPC's words."""

from __future__ import annotations

import asyncio

import hpack
import pytest
from grpc_serving import GrpcServing, grpc_serving

from townhall.face.grpc import Code, framed
from townhall.model.errors import OverLimit
from townhall.serve.http2 import Http2Peer
from townhall.wire.grpc import compress, decompress, prefixed
from townhall.wire.http2 import PREFACE, frames


def test_a_unary_call_is_answered_with_head_message_and_trailers() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        answer = await client.call("/toy.Toy/Echo", b"hello", ("x-a", "1"), ("x-a", "2"), ("want-note", ""))
        assert answer.messages == [b"hello"]
        assert answer.fields == {
            ":status": "200",
            "content-type": "application/grpc",
            "grpc-status": "0",
            "x-note": "noted",
        }
        call = server.face.calls[0]
        assert (call.path, call.message, call.metadata["x-a"]) == ("/toy.Toy/Echo", b"hello", "1,2")
        assert call.peer.startswith("127.0.0.1:")
        assert not {"te", "content-type", "grpc-timeout"} & set(call.metadata)
        assert server.counters.succeeded == 1

    grpc_serving(test)


def test_many_calls_on_one_connection() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        numbers = [client.start("/toy.Toy/Echo", b"%d" % index) for index in range(300)]
        for index, number in enumerate(numbers):
            assert (await client.ended(number)).messages == [b"%d" % index]

    grpc_serving(test)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/toy.Toy/Nope", Code.UNIMPLEMENTED, "unknown method Nope for service toy.Toy"),
        ("/toy.Other/Echo", Code.UNIMPLEMENTED, "unknown service toy.Other"),
        ("/nothing", Code.UNIMPLEMENTED, 'malformed method name: "/nothing"'),
        ("/toy.Toy/Refused", Code.NOT_FOUND, "no%20s%C3%BCch%20thing%20(100%25%20sure)"),
        ("/toy.Toy/Broken", Code.UNKNOWN, "an internal error (it is logged; report it)"),
        ("/toy.Toy/Nonsense", Code.UNKNOWN, "an internal error (it is logged; report it)"),
        ("/toy.Toy/Wrong", Code.UNKNOWN, "an internal error (it is logged; report it)"),
        ("/toy.Toy/Small", Code.RESOURCE_EXHAUSTED, "grpc: received message larger than max (11 vs. 10)"),
    ],
)
def test_refusals_are_trailers_only(path: str, status: Code, text: str) -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        answer = await client.call(path, b"x" * 11)
        assert (answer.status, answer.fields["grpc-message"], answer.data) == (status, text, b"")
        assert (await client.call("/toy.Toy/Echo", b"still here")).messages == [b"still here"]
        assert server.counters.failed == {status: 1}
        assert server.counters.errors == ("internal" in text)

    grpc_serving(test)


def test_what_is_no_grpc_gets_plain_http() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        for fields, status in (
            ({"kind": "application/json"}, "415"),
            ({"kind": "application/grpcx"}, "415"),
            ({"method": "GET"}, "405"),
        ):
            answer = await client.ended(client.open("/toy.Toy/Echo", ends=True, **fields))
            assert answer.fields[":status"] == status
            assert answer.data.endswith(b"\n")
        answer = await client.ended(client.open("/toy.Toy/Echo", ("x", "y" * 33_000), ends=True))
        assert answer.fields[":status"] == "431"
        answer = await client.ended(client.open("/toy.Toy/Echo", kind="application/grpc+proto", ends=True))
        assert answer.status == Code.INTERNAL, "a call without a message"

    grpc_serving(test)


def test_credentials_are_asked_of_the_hub() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        answer = await client.call("/toy.Toy/Echo", b"", ("token", "s3cret"))
        assert answer.status == Code.UNAUTHENTICATED
        server.hub.secrets.add("s3cret")
        assert (await client.call("/toy.Toy/Echo", b"", ("token", "s3cret"))).status == Code.OK
        assert server.face.calls[-1].actor.token_id == "s3cret"

    grpc_serving(test)


def test_compressed_messages_both_ways() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        number = client.open("/toy.Toy/Echo", ("grpc-encoding", "gzip"))
        client.data(number, prefixed(compress(b"x" * 50_000), compressed=True), ends=True)
        answer = await client.ended(number)
        assert answer.fields["grpc-encoding"] == "gzip"
        assert answer.data[0] == 1
        assert decompress(answer.messages[0], 100_000) == b"x" * 50_000
        number = client.open("/toy.Toy/Echo", ("grpc-encoding", "gzip"))
        client.data(number, prefixed(b"short"), ends=True)
        assert (await client.ended(number)).messages == [b"short"], "what is short goes as it is"
        answer = await client.call("/toy.Toy/Echo", b"", ("grpc-encoding", "snappy"))
        assert answer.status == Code.UNIMPLEMENTED
        assert answer.fields["grpc-accept-encoding"] == "identity,gzip"
        number = client.open("/toy.Toy/Echo")
        client.data(number, prefixed(b"x", compressed=True), ends=True)
        assert (await client.ended(number)).status == Code.INTERNAL

    grpc_serving(test)


def test_a_message_may_come_in_any_pieces() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        data = framed(b"hello")
        number = client.open("/toy.Toy/Echo")
        for byte in data:
            client.data(number, bytes((byte,)))
        client.data(number, b"", ends=True)
        assert (await client.ended(number)).messages == [b"hello"]
        answer = await client.call("/toy.Toy/Echo", b"m" * 1_500_000)
        assert (answer.status, len(answer.messages[0])) == (Code.OK, 1_500_000)

    grpc_serving(test)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0\0\0\0\5hell", framed(b"a") + framed(b"b"), b"\2\0\0\0\0"])
def test_a_call_takes_one_whole_message(data: bytes) -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        number = client.open("/toy.Toy/Echo")
        client.data(number, data, ends=True)
        assert (await client.ended(number)).status == Code.INTERNAL

    grpc_serving(test)


def test_a_timeout_that_is_none() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        answer = await client.call("/toy.Toy/Echo", b"", ("grpc-timeout", "soon"))
        assert (answer.status, answer.fields["grpc-message"]) == (Code.INTERNAL, "malformed grpc-timeout")

    grpc_serving(test)


def test_calls_are_refused_while_too_many_answers_wait() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client({4: 0})
        first = client.start("/toy.Toy/Large", b"2000")
        await client.until(lambda: client.answers[first].fields)
        answer = await client.call("/toy.Toy/Echo")
        assert answer.status == Code.RESOURCE_EXHAUSTED

    grpc_serving(test, limits={"unsent_size_max": 1_000})


def test_errors_of_the_hub_are_told_like_outcomes() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        server.hub.submit_error = OverLimit("too much")
        assert (await client.call("/toy.Toy/Submit", b"a")).messages == [b"over_limit"]

    grpc_serving(test)


class _Deaf(asyncio.Transport):
    """Takes what is written, or breaks."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.taken = b""
        self.broken = self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.broken:
            raise RuntimeError("no")
        self.taken += data

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


def _peer(server: GrpcServing) -> tuple[Http2Peer, _Deaf]:
    calls = server.server._calls
    assert calls is not None
    peer, transport = Http2Peer(calls), _Deaf()
    peer.connection_made(transport)
    peer.data_received(PREFACE + frames.settings({}))
    return peer, transport


def _calls(path: str, *numbers: int) -> bytes:
    head = [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc")]
    block = hpack.Encoder().encode(head)
    return b"".join(
        frames.frame(frames.HEADERS, frames.END_HEADERS, number, block)
        + frames.frame(frames.DATA, frames.END_STREAM, number, framed(b"word"))
        for number in numbers
    )


def test_who_asks_is_found_out_once_a_turn_and_anew_in_the_next() -> None:
    async def test(server: GrpcServing) -> None:
        peer, transport = _peer(server)
        peer.data_received(_calls("/toy.Toy/Echo", 1, 3, 5))
        assert (server.counters.succeeded, server.hub.authentications) == (3, 1)
        server.hub.secrets.clear()
        peer.data_received(_calls("/toy.Toy/Echo", 7))
        assert server.counters.failed == {Code.UNAUTHENTICATED: 1}
        assert transport.taken.count(b"word") == 3
        peer.connection_lost(None)

    grpc_serving(test)


def test_answers_to_many_connections_go_out_together_and_one_that_breaks_keeps_none_of_the_others() -> None:
    async def test(server: GrpcServing) -> None:
        peers = [_peer(server) for _ in range(3)]
        for peer, _ in peers:
            peer.data_received(_calls("/toy.Toy/Submit", 1))
        peers[1][1].broken = True
        for _ in range(20):
            await asyncio.sleep(0)
        assert [transport.taken.count(b"word@") for _, transport in peers] == [1, 0, 1]
        assert [transport.aborted for _, transport in peers] == [False, True, False]
        for peer, _ in peers:
            peer.connection_lost(None)

    grpc_serving(test)
