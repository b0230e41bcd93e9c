"""Submit and Park over gRPC."""

from __future__ import annotations

from grpc_serving import GrpcServing, grpc_serving
from serve_support import until

from townhall.face import Reply
from townhall.face.grpc import Code
from townhall.serve.call_run import CallRun
from townhall.wire.http2 import ErrorCode, frames


def test_commands_are_answered_in_order() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        assert (await client.call("/toy.Toy/Submit", b"a")).messages == [b"a@1"]
        assert (await client.call("/toy.Toy/Submit", b"b refuse c")).messages == [b"b@2,not_found,c@4"]
        assert (await client.call("/toy.Toy/Submit", b"")).messages == [b""]
        assert (await client.call("/toy.Toy/Never", b"a")).status == Code.UNKNOWN, "a duplex method cannot submit"

    grpc_serving(test)


def test_a_cancelled_write_takes_effect_all_the_same() -> None:
    async def test(server: GrpcServing) -> None:
        server.hub.hold = True
        client = await server.client()
        number = client.start("/toy.Toy/Submit", b"a")
        await until(lambda: server.hub.submitted)
        client.send(frames.reset(number, ErrorCode.CANCEL))
        await until(lambda: server.counters.cancelled)
        server.hub.release()
        assert server.counters.dropped == 1
        assert (client.answers[number].fields, client.answers[number].data) == ({}, b"")
        assert server.hub.submitted == ["a", "undo a"], "its face is asked what to do about it"

    grpc_serving(test)


def test_a_client_that_vanishes_while_it_is_written_for() -> None:
    async def test(server: GrpcServing) -> None:
        server.hub.hold = True
        client = await server.client()
        client.start("/toy.Toy/Submit", b"a refuse b")
        await until(lambda: len(server.hub.submitted) == 3)
        client.close()
        await until(lambda: server.counters.cancelled)
        server.hub.release()
        assert server.hub.submitted[3:] == ["undo a", "undo b"]
        server.hub.release()

    grpc_serving(test)


def test_a_parked_call_is_answered_when_woken_and_when_expired() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        number = client.start("/toy.Toy/Park")
        await until(lambda: server.counters.parked == 1)
        server.hub.change()
        server.face.ready = Reply(Code.OK, b"ready")
        server.hub.change()
        assert (await client.ended(number)).messages == [b"ready"]
        server.face.ready, server.face.wait_ms = None, 60
        assert (await client.call("/toy.Toy/Park")).messages == [b"expired"]
        server.face.wait_ms = 0
        assert (await client.call("/toy.Toy/Park")).messages == [b"expired"]
        assert not server.face.abandoned

    grpc_serving(test)


def test_whoever_stops_waiting_abandons() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        number = client.start("/toy.Toy/Park")
        await until(lambda: server.counters.parked == 1)
        client.send(frames.reset(number, ErrorCode.CANCEL))
        await until(lambda: server.face.abandoned == 1)
        client.start("/toy.Toy/Park")
        await until(lambda: server.counters.parked == 1)
        client.close()
        await until(lambda: server.face.abandoned == 2)
        await until(lambda: server.hub.submitted == ["abandoned", "abandoned"])

    grpc_serving(test)


def test_the_deadline_of_a_call_ends_its_wait() -> None:
    async def test(server: GrpcServing) -> None:
        server.hub.hold = True
        client = await server.client()
        parked = client.start("/toy.Toy/Park", b"", ("grpc-timeout", "50m"))
        written = client.start("/toy.Toy/Submit", b"a", ("grpc-timeout", "50000u"))
        for number in (parked, written):
            answer = await client.ended(number)
            assert answer.status == Code.DEADLINE_EXCEEDED
            assert answer.fields["grpc-message"] == "context deadline exceeded"
        assert server.face.abandoned == 1
        server.hub.release()
        assert server.counters.dropped == 1

    grpc_serving(test)


def test_a_wait_that_ends_before_the_deadline() -> None:
    async def test(server: GrpcServing) -> None:
        server.face.wait_ms = 60
        client = await server.client()
        answer = await client.call("/toy.Toy/Park", b"", ("grpc-timeout", "1H"))
        assert answer.messages == [b"expired"]

    grpc_serving(test)


def test_places_are_limited_by_address() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        client.start("/toy.Toy/Park")
        await until(lambda: server.counters.parked == 1)
        answer = await client.call("/toy.Toy/Park")
        assert answer.status == Code.RESOURCE_EXHAUSTED
        assert server.hub.submitted == ["abandoned"], "who may not wait gives up what it came with"

    grpc_serving(test, parked_per_address_max=1)


def test_a_plain_run_waits_for_nothing() -> None:
    async def test(server: GrpcServing) -> None:
        run = CallRun.__new__(CallRun)
        assert not run.patient
        for nothing in (run.lost, run.writable, run.waited):
            nothing()
        run.received(b"x", True)

    grpc_serving(test)
