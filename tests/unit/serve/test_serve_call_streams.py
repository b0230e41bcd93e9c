"""Stream and Duplex over gRPC."""

from __future__ import annotations

from typing import Any

import pytest
from grpc_serving import GrpcServing, grpc_serving
from serve_support import until

from townhall.core import KeyRange
from townhall.face import EndOfStream, Follow, Pulled, Reply, Stream, Submit, Unfollow
from townhall.face.grpc import Code, framed
from townhall.model.errors import NotFound, OverLimit
from townhall.model.limits import DUPLEX_PENDING_MAX, HTTP2_HELD_SIZE_MAX
from townhall.serve.follows import Follows
from townhall.wire.http2 import ErrorCode, frames


def test_a_stream_is_pulled_at_its_start_and_when_woken() -> None:
    async def test(server: GrpcServing) -> None:
        server.face.pulled = [Pulled(framed(b"first")), Pulled(framed(b"second") + framed(b"third")), None]
        client = await server.client()
        number = client.start("/toy.Toy/Stream")
        answer = client.answers[number]
        await client.until(lambda: answer.messages == [b"first"])
        server.hub.change()
        await client.until(lambda: answer.messages == [b"first", b"second", b"third"])
        server.face.pulled = [EndOfStream(framed(b"last"))]
        server.hub.change()
        await client.ended(number)
        assert (answer.messages[-1], answer.status) == (b"last", Code.OK)

    grpc_serving(test)


def test_more_is_pulled_without_a_wake_up() -> None:
    async def test(server: GrpcServing) -> None:
        server.face.pulled = [*(Pulled(framed(b"x" * 50_000), more=True) for _ in range(40)), EndOfStream()]
        client = await server.client()
        number = client.start("/toy.Toy/Stream")
        assert len((await client.ended(number)).messages) == 40

    grpc_serving(test)


@pytest.mark.parametrize("started", [True, False])
def test_errors_of_a_stream_end_it_in_the_words_of_the_face(started: bool) -> None:
    async def test(server: GrpcServing) -> None:
        server.face.pulled = [*([Pulled(framed(b"first"))] if started else []), NotFound("gone")]
        client = await server.client()
        number = client.start("/toy.Toy/Stream")
        if started:
            await until(lambda: server.hub.tickets)
            server.hub.change()
        answer = await client.ended(number)
        assert (answer.status, answer.fields["grpc-message"]) == (Code.NOT_FOUND, "gone")
        assert answer.messages == ([b"first"] if started else [])
        assert answer.error is None

    grpc_serving(test)


def test_a_slow_reader_gets_one_coalesced_step() -> None:
    async def test(server: GrpcServing) -> None:
        server.face.pulled = [Pulled(framed(b"a" * 100))]
        client = await server.client({4: 50})
        client.generous = False
        number = client.start("/toy.Toy/Stream")
        answer = client.answers[number]
        await client.until(lambda: len(answer.data) == 50)
        before = server.face.pulls
        for _ in range(5):
            server.hub.change()
        server.face.pulled = [Pulled(framed(b"b"))]
        client.send(frames.frame(frames.PING, 0, 0, b"12345678"))
        await client.until(lambda: client.pongs)
        assert server.face.pulls == before, "it is not pulled while the peer takes nothing"
        client.send(frames.window_update(number, 1000))
        await client.until(lambda: answer.messages == [b"a" * 100, b"b"])
        # The wake-up that was waited for, and one for all that came after it.
        assert server.face.pulls <= before + 2

    grpc_serving(test)


def test_heartbeats_fill_the_silence() -> None:
    async def test(server: GrpcServing) -> None:
        server.face.stream = Stream((), server.face.pull, heartbeat=framed(b"still here"), heartbeat_ms=50)
        client = await server.client()
        number = client.start("/toy.Toy/Stream")
        await client.until(lambda: len(client.answers[number].messages) >= 2)

    grpc_serving(test)


def test_a_stream_tells_the_table_of_subscribers_what_it_sent() -> None:
    async def test(server: GrpcServing) -> None:
        subscriber: Any = object()
        server.face.stream = Stream((), server.face.pull, subscriber=subscriber, headers=((b"x-head", b"y"),))
        server.face.pulled = [Pulled(framed(b"first"), {("", "", "web"): 7})]
        client = await server.client()
        number = client.start("/toy.Toy/Stream")
        await client.until(lambda: client.answers[number].fields.get("x-head") == "y")
        assert server.hub.subscriptions[0].revisions == {("", "", "web"): 7}

    grpc_serving(test)


def test_the_deadline_ends_a_stream() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        answer = await client.ended(client.start("/toy.Toy/Stream", b"", ("grpc-timeout", "60m")))
        assert answer.status == Code.DEADLINE_EXCEEDED

    grpc_serving(test)


def test_messages_of_a_duplex_call_are_answered_in_their_order() -> None:
    async def test(server: GrpcServing) -> None:
        def steps(message: bytes) -> list[Any]:
            if message == b"write":
                return [Submit(["w"], lambda reader, results: Reply(Code.OK, framed(b"written")))]  # type: ignore[list-item]
            return [framed(message)]

        server.face.steps = steps
        server.hub.hold = True
        client = await server.client()
        number = client.open("/toy.Toy/Chat")
        answer = client.answers[number]
        data = framed(b"a") + framed(b"write") + framed(b"b")
        for at in range(len(data)):
            client.data(number, data[at : at + 1])
        await client.until(lambda: server.hub.waiting and len(server.face.received) == 3 and answer.messages)
        assert answer.messages == [b"a"]
        client.data(number, b"", ends=True)
        await until(lambda: server.face.closed == [True])
        server.hub.release()
        await client.ended(number)
        assert (answer.messages, answer.status) == ([b"a", b"written", b"b"], Code.OK)
        await until(lambda: "gone" in server.hub.submitted)

    grpc_serving(test)


def test_a_duplex_call_that_outlives_its_input() -> None:
    async def test(server: GrpcServing) -> None:
        server.face.outlives_input = True
        client = await server.client()
        number = client.start("/toy.Toy/Chat", b"a")
        await client.until(lambda: client.answers[number].messages == [b"<a>"])
        server.face.pulled = [Pulled(framed(b"later"))]
        server.hub.change()
        await client.until(lambda: client.answers[number].messages == [b"<a>", b"later"])
        assert server.face.closed == []
        client.send(frames.reset(number, ErrorCode.CANCEL))
        await until(lambda: server.face.closed == [False])

    grpc_serving(test)


def test_what_is_followed_wakes_alone_and_is_pulled_once() -> None:
    async def test(server: GrpcServing) -> None:
        noted: list[int] = []

        def steps(message: bytes) -> list[Any]:
            name = int(message)
            if name < 0:
                return [Unfollow(-name), Unfollow(99), framed(b"unfollowed")]
            return [Follow(("services", message.decode()), lambda: noted.append(name), name), framed(message)]

        server.face.steps = steps
        server.face.stream = Stream((), server.face.pull)
        client = await server.client()
        number = client.open("/toy.Toy/Chat")
        client.data(number, b"".join(framed(b"%d" % name) for name in (1, 2, 3, 3)))
        await client.until(lambda: len(client.answers[number].messages) == 4)
        await until(lambda: server.face.pulls == 2)
        assert len(server.hub.tickets) == 3, "a name that is there already is replaced"
        server.face.pulled = [Pulled(framed(b"news"))]
        server.hub.change()
        await client.until(lambda: client.answers[number].messages[-1:] == [b"news"])
        assert (sorted(noted), server.face.pulls) == ([1, 2, 3], 3)
        client.data(number, framed(b"-2"))
        await client.until(lambda: client.answers[number].messages[-1:] == [b"unfollowed"])
        server.hub.change()
        await until(lambda: server.face.pulls == 4)
        assert sorted(noted) == [1, 1, 2, 3, 3]
        client.data(number, b"", ends=True)
        assert (await client.ended(number)).status == Code.OK

    grpc_serving(test)


def test_following_too_much_ends_the_call() -> None:
    async def test(server: GrpcServing) -> None:
        server.face.steps = lambda message: [Follow(("services", ""), lambda: None, 1)]
        server.face.stream = Stream((), server.face.pull)
        client = await server.client()
        number = client.open("/toy.Toy/Chat")
        await client.until(lambda: client.answers[number].fields)
        server.hub.watch_error = OverLimit("too many watchers")
        client.data(number, framed(b"x"))
        assert (await client.ended(number)).status == Code.RESOURCE_EXHAUSTED
        assert server.face.closed == [False]

    grpc_serving(test)


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"\0\0\0\0\5hel", Code.INTERNAL), (b"\7\0\0\0\0", Code.INTERNAL), (b"\0\xff\0\0\0", Code.RESOURCE_EXHAUSTED)],
)
def test_a_duplex_call_ends_with_its_first_bad_message(data: bytes, status: Code) -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        number = client.open("/toy.Toy/Chat")
        client.data(number, framed(b"good") + data, ends=True)
        answer = await client.ended(number)
        assert (answer.status, answer.messages) == (status, [b"<good>"])

    grpc_serving(test)


def test_a_handler_may_refuse_a_duplex_call() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        number = client.open("/toy.Toy/Chat", ("refuse", "1"))
        assert (await client.ended(number)).status == Code.PERMISSION_DENIED
        client.data(number, framed(b"late"))
        assert (await client.call("/toy.Toy/Echo", b"x")).messages == [b"x"], "what came late is no fault"

    grpc_serving(test)


def test_errors_and_ends_from_within_receive() -> None:
    async def test(server: GrpcServing) -> None:
        def steps(message: bytes) -> list[Any]:
            if message == b"end":
                raise EndOfStream(framed(b"bye"))
            if message == b"refuse":
                return [Submit([], lambda reader, results: Reply(Code.ABORTED, b"no"))]
            raise NotFound("what?")

        server.face.steps = steps
        client = await server.client()
        for message, status in ((b"end", Code.OK), (b"x", Code.NOT_FOUND), (b"refuse", Code.ABORTED)):
            number = client.open("/toy.Toy/Chat")
            client.data(number, framed(message))
            answer = await client.ended(number)
            assert answer.status == status
        assert server.face.closed == [True, False, False]

    grpc_serving(test)


@pytest.mark.parametrize("known", [b"", b"bce", b"abcdewz"])
@pytest.mark.parametrize("cut", [0, 1, 3, 7, 1_000])
def test_what_is_answered_at_once_keeps_its_turn(cut: int, known: bytes) -> None:
    """A message a frame (0) is what the shortest paths are for; cut otherwise, they take the long one."""

    async def test(server: GrpcServing) -> None:
        def steps(message: bytes) -> list[Any]:
            if message.startswith(b"w"):
                return [Submit([message.decode()], lambda reader, results: Reply(Code.OK, framed(message)))]  # type: ignore[list-item]
            return [framed(message), framed(b"+")] if message.startswith(b"d") else [framed(message)]

        server.face.steps = steps
        server.hub.hold = True
        client = await server.client()
        number = client.open("/toy.Toy/Chat")
        said = [b"a", b"b", b"w1", b"c", b"d", b"w2", b"", b"e"]
        server.face.knows = {framed(message): message for message in [*said, b"z"] if message[:1] in known}
        whole = b"".join(map(framed, said))
        pieces = [whole[at : at + cut] for at in range(0, len(whole), cut)] if cut else list(map(framed, said))
        for piece in pieces:
            client.data(number, piece)
        await until(lambda: len(server.face.received) == len(said))
        server.hub.hold = False
        server.hub.release()
        client.data(number, framed(b"z"), ends=True)
        answer = await client.ended(number)
        assert answer.messages == [b"a", b"b", b"w1", b"c", b"d", b"+", b"w2", b"", b"e", b"z"]
        assert server.face.received == [*said, b"z"]

    grpc_serving(test)


def test_input_is_left_unread_while_too_many_answers_wait() -> None:
    async def test(server: GrpcServing) -> None:
        def render(reader: Any, results: Any) -> Reply:
            return Reply(Code.OK, framed(b"."))

        server.face.steps = lambda message: [Submit(["w"], render)]  # type: ignore[list-item]
        server.hub.hold = True
        client = await server.client()
        number = client.open("/toy.Toy/Chat")
        client.data(number, framed(b"x") * (DUPLEX_PENDING_MAX + 50), ends=True)
        await until(lambda: len(server.face.received) == DUPLEX_PENDING_MAX)
        server.hub.hold = False
        server.hub.release()
        answer = await client.ended(number)
        assert (len(answer.messages), answer.status) == (DUPLEX_PENDING_MAX + 50, Code.OK)
        assert HTTP2_HELD_SIZE_MAX > 1_000_000

    grpc_serving(test)


def test_follows_forget_what_they_are_told_to() -> None:
    async def test(server: GrpcServing) -> None:
        follows = Follows(server.hub, lambda: None)
        follows.add(Follow(("services", ""), lambda: None, "a"))
        assert len(follows) == 1
        follows.arm()
        follows.clear()
        assert len(follows) == 0
        assert not server.hub.tickets

    grpc_serving(test)


def test_a_follow_may_ask_since_when_it_has_changed() -> None:
    async def test(server: GrpcServing) -> None:
        seen: list[int] = []
        pulls: list[int] = []
        follows = Follows(server.hub, lambda: pulls.append(1))
        follows.add(Follow(KeyRange("etcd", b"a"), lambda: seen.append(-1), "a", seen.append))
        server.hub.tickets[-1].since = {"etcd": 9}
        server.hub.tickets[-1].wake()
        assert (seen, pulls) == ([9], [1])
        follows.clear()

    grpc_serving(test)
