"""gRPC through the gateway, with grpcio at both ends and a real gateway process between them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from gateway_process import GatewayProcess, gateway
from townhall_process import DEADLINE_S

LARGE = bytes(range(256)) * 8_192


def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
    fields = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-first", fields.get("x-asked", "")),))
    context.set_trailing_metadata((("x-last", "1"), ("x-bin", b"\0\xff")))
    if request == b"refuse":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 % sure, schön")
    if request == b"wait":
        # Until the call is over; a thread that slept on would hold up the end of the whole run.
        over = threading.Event()
        if context.add_callback(over.set):
            over.wait(DEADLINE_S)
    return request.upper() if len(request) < 100 else request


def downward(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


def upward(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    return b"%d" % sum(len(one) for one in requests)


def both(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    for one in requests:
        yield one.upper()


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Down": grpc.unary_stream_rpc_method_handler(downward),
    "Up": grpc.stream_unary_rpc_method_handler(upward),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}


class Server:
    def __init__(self) -> None:
        self.server = grpc.server(futures.ThreadPoolExecutor(20))
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", METHODS),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.server.stop(None).wait()


@pytest.fixture(scope="module")
def front(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    file = tmp_path_factory.mktemp("gateway") / "gateway.toml"
    file.write_text(f'[[route]]\nprotocol = "h2"\nservice = "static://127.0.0.1:{server.port}"\n')
    with gateway("--config", str(file)) as process:
        yield process


@pytest.fixture(scope="module")
def channel(front: GatewayProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(front.listen["http"]) as made:
        yield made


def test_one_message_each_way(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/test.Echo/Unary")
    answer, rpc = call.with_call(b"hello", metadata=(("x-asked", "yes"),), timeout=DEADLINE_S)
    assert answer == b"HELLO"
    assert dict(rpc.initial_metadata())["x-first"] == "yes"
    assert dict(rpc.trailing_metadata()) == {"x-last": "1", "x-bin": b"\0\xff"}
    assert call(LARGE, timeout=DEADLINE_S) == LARGE


def test_a_refusal_keeps_its_status_words_and_metadata(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/test.Echo/Unary")(b"refuse", timeout=DEADLINE_S)
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert refused.value.details() == "not today: 100 % sure, schön"
    assert dict(refused.value.trailing_metadata())["x-last"] == "1"
    with pytest.raises(grpc.RpcError) as unknown:
        channel.unary_unary("/test.Echo/Nothing")(b"", timeout=DEADLINE_S)
    assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_streams_in_all_directions(channel: grpc.Channel) -> None:
    down = channel.unary_stream("/test.Echo/Down")(b"1000", timeout=DEADLINE_S)
    assert [int(one) for one in down] == list(range(1_000))
    up = channel.stream_unary("/test.Echo/Up")
    assert up(iter([LARGE] * 8), timeout=DEADLINE_S) == b"%d" % (8 * len(LARGE))
    # Each message waits for the answer to the one before.
    go, said = threading.Semaphore(1), iter([b"a", b"b", b"c", LARGE.lower()])

    def asked() -> Iterator[bytes]:
        for one in said:
            go.acquire()
            yield one

    found = []
    for one in channel.stream_stream("/test.Echo/Both")(asked(), timeout=DEADLINE_S):
        found.append(one[:1])
        go.release()
    assert len(found) == 4


def test_many_at_the_same_time(channel: grpc.Channel) -> None:
    call = channel.unary_unary("/test.Echo/Unary")
    calls = [call.future(b"n%d" % number, timeout=DEADLINE_S) for number in range(500)]
    assert [one.result() for one in calls] == [b"N%d" % number for number in range(500)]


def test_a_deadline_is_the_clients(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as late:
        channel.unary_unary("/test.Echo/Unary")(b"wait", timeout=0.2)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_nobody_there_is_said_in_its_words(tmp_path: Path) -> None:
    gone = Server()
    gone.server.stop(None).wait()
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'[[route]]\npath = "/test.Echo"\nprotocol = "h2"\nservice = "static://127.0.0.1:{gone.port}"\nretries = 0\n'
    )
    with gateway("--config", str(file)) as process, grpc.insecure_channel(process.listen["http"]) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/test.Echo/Unary")(b"", timeout=DEADLINE_S)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "static://" in error.value.details()
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/test.Other/Unary")(b"", timeout=DEADLINE_S)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_an_instance_that_leaves_loses_no_call(tmp_path: Path) -> None:
    first, second = Server(), Server()
    file = tmp_path / "gateway.toml"
    places = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
    file.write_text(f'[[route]]\nprotocol = "h2"\nservice = "static://{places}"\n')
    with gateway("--config", str(file)) as process, grpc.insecure_channel(process.listen["http"]) as channel:
        call = channel.unary_unary("/test.Echo/Unary")
        for number in range(300):
            assert call(b"a", timeout=DEADLINE_S) == b"A"
            if number == 100:
                # It says GOAWAY, ends what runs, and listens no longer.
                first.server.stop(DEADLINE_S).wait()
    second.server.stop(None).wait()
