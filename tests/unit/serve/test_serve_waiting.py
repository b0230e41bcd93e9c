from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from serve_support import FakeHub, Serving, get, post, serving, until

from townhall.face import Alike, Park, Pulled, Reply, Stream, Submit
from townhall.model.errors import NotFound, OverLimit, TooLarge
from townhall.serve.waiting import Commands


def test_outcomes_are_rendered_in_the_order_of_the_commands() -> None:
    async def test(server: Serving) -> None:
        server.hub.hold = True
        client = await server.client()
        client.send(post("/submit", b"a refuse b"))
        await until(lambda: len(server.hub.waiting) == 3)
        server.hub.waiting.reverse()
        server.hub.release()
        assert (await client.answer()).body == b"a@1,not_found,b@3"
        client.send(post("/submit", b""))
        assert (await client.answer()).body == b"", "no commands: rendered at once"

    serving(test)


def test_commands_are_collected_by_their_place() -> None:
    class Driver:
        def __init__(self) -> None:
            self.done: list[Any] = []

        def submit(self, command: object, actor: object, done: object) -> None:
            self.done.append(done)

    driver, seen = Driver(), []
    Commands(driver, Submit(("a", "b"), None), None, seen.append)  # type: ignore[arg-type]
    driver.done[1]("second")
    assert seen == []
    driver.done[0]("first")
    assert seen == [["first", "second"]]


def test_a_client_that_vanishes_while_it_is_written_for() -> None:
    async def test(server: Serving) -> None:
        server.hub.hold = True
        client = await server.client()
        client.send(post("/submit", b"a refuse b"))
        await until(lambda: len(server.hub.waiting) == 3)
        client.cut()
        await until(lambda: not server.counters.open)
        server.hub.release()
        assert server.hub.submitted[3:] == ["undo a", "undo b"]
        assert server.counters.dropped == 1
        server.hub.release()

    serving(test)


def test_a_wait_does_not_begin_for_a_client_that_has_said_its_last() -> None:
    async def test(server: Serving) -> None:
        server.hub.hold = True
        server.face.then = Park((), lambda reader, expired: None, 60_000, lambda: ["abandoned"])  # type: ignore[arg-type,return-value]
        client = await server.client()
        client.send(post("/submit", b"a"))
        await until(lambda: server.hub.waiting)
        client.writer.write_eof()
        peer = next(iter(server.server._driver.peers.connections))
        await until(lambda: peer.half_closed)
        server.hub.release()
        await until(lambda: server.hub.submitted == ["a", "abandoned"])
        assert await client.rest() == b""

    serving(test)


def test_a_hub_that_refuses_at_once_is_told_later_like_any_other() -> None:
    async def test(server: Serving) -> None:
        server.hub.submit_error = OverLimit("too many commands wait")
        assert (await server.ask(post("/submit", b"a"))).body == b"over_limit"

    serving(test)


def test_a_render_may_return_any_verb_or_raise() -> None:
    async def test(server: Serving) -> None:
        def then(verb: Any) -> None:
            def render(reader: Any, results: Sequence[Any]) -> Any:
                if isinstance(verb, Exception):
                    raise verb
                return verb

            server.server._driver.heads.young.clear()
            server.server._driver.heads._old.clear()
            server.face.routes[:] = []
            route = server.server._driver.heads.router.match("POST", ("submit",)).route
            assert route is not None
            server.server._driver.heads.router._exact["submit",].routes["POST"] = route._replace(
                handler=lambda request, reader: Submit(("x",), render)  # type: ignore[arg-type]
            )

        client = await server.client()
        again = Submit(("y",), lambda reader, results: Reply(200, b"second"))  # type: ignore[arg-type]
        then(again)
        client.send(post("/submit", b""))
        assert (await client.answer()).body == b"second"
        then(NotFound("gone"))
        client.send(post("/submit", b""))
        assert (await client.answer()).status == 404
        then(ZeroDivisionError("a bug"))
        client.send(post("/submit", b""))
        assert (await client.answer()).status == 500
        then(Park((), lambda reader, expired: Reply(200, b"waited") if expired else None, 50))
        client.send(post("/submit", b""))
        assert (await client.answer()).body == b"waited"
        server.face.pulled = [Pulled(b"streamed")]
        then(Stream((), server.face.pull))
        client.send(post("/submit", b""))
        assert (await client.head()).status == 200
        assert await client.chunk() == b"streamed"

    serving(test)


def test_a_parked_read_is_answered_when_its_time_has_come() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(get("/park"))
        await until(lambda: server.counters.parked == 1)
        server.hub.change()
        server.hub.change()
        await asyncio.sleep(0.02)
        assert server.counters.parked == 1, "woken for nothing, it waits again"
        server.face.ready = Reply(200, b"now")
        server.hub.change()
        assert (await client.answer()).body == b"now"
        assert server.counters.parked == 0
        assert (await client.get("/park")).body == b"now", "no wait when there is something already"

    serving(test)


def test_a_parked_read_ends_at_its_deadline() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        server.face.wait_ms = 120
        assert (await client.get("/park")).body == b"expired"
        server.face.wait_ms = 0
        assert (await client.get("/park")).body == b"expired"
        assert server.counters.parked == 0

    serving(test)


def test_a_parked_read_goes_with_its_client() -> None:
    async def test(server: Serving) -> None:
        clients = [await server.client() for _ in range(3)]
        for client in clients:
            client.send(get("/park"))
        await until(lambda: server.counters.parked == 3)
        clients[0].cut()
        clients[1].close()
        await until(lambda: server.counters.parked == 1)
        assert len(server.hub.tickets) == 1
        server.face.ready = Reply(200, b"now")
        server.hub.change()
        assert (await clients[2].answer()).body == b"now"
        assert server.counters.errors == 0

    serving(test)


def test_parked_reads_of_one_address_are_limited() -> None:
    async def test(server: Serving) -> None:
        clients = [await server.client() for _ in range(3)]
        for client in clients[:2]:
            client.send(get("/park"))
        await until(lambda: server.counters.parked == 2)
        assert (await clients[2].get("/park")).body.startswith(b"over_limit")
        assert (await clients[2].get("/stream")).body.startswith(b"over_limit")
        clients[0].cut()
        await until(lambda: server.counters.parked == 1)
        clients[2].send(get("/park"))
        await until(lambda: server.counters.parked == 2)

    serving(test, parked_per_address_max=2)


def test_a_hub_that_takes_no_more_watchers() -> None:
    async def test(server: Serving) -> None:
        server.hub.watch_error = OverLimit("too many cursors")
        client = await server.client()
        for target in ("/park", "/stream"):
            assert (await client.get(target)).body.startswith(b"over_limit")
        server.hub.watch_error = None
        server.face.ready = Reply(200, b"fine")
        assert (await client.get("/park")).body == b"fine"

    serving(test, parked_per_address_max=1)


def test_a_token_that_expires_while_parked_is_told() -> None:
    async def test(server: Serving) -> None:
        server.hub.secrets.add("s3cret")
        client = await server.client()
        client.send(get("/park", "X-Token: s3cret"))
        await until(lambda: server.counters.parked)
        server.hub.secrets.discard("s3cret")
        server.hub.change()
        assert (await client.answer()).status == 401

    serving(test)


def test_an_attempt_that_fails_is_an_answer() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        client.send(get("/park"))
        await until(lambda: server.counters.parked)

        def fail(*_: object) -> None:
            raise TooLarge("too many")

        server.hub.reader = fail  # type: ignore[method-assign,assignment]
        server.hub.change()
        assert (await client.answer()).status == 413
        server.hub.reader = FakeHub.reader.__get__(server.hub)  # type: ignore[method-assign]
        assert (await client.get("/hello")).status == 200

    serving(test)


def test_those_who_wait_with_the_same_words_share_one_rendering() -> None:
    async def test(server: Serving) -> None:
        hub, attempts = server.hub, 0

        def attempt(reader: Any, expired: bool) -> Reply | None:
            nonlocal attempts
            attempts += 1
            return Reply(200, b"at %d" % hub.position, view=hub.view()) if hub.position else None

        server.face.parked = Park((), attempt, 60_000)
        clients = [await server.client() for _ in range(5)]
        for client in clients:
            client.send(get("/park"))
        await until(lambda: server.counters.parked == 5)
        other = await server.client()
        other.send(get("/park?other"))
        await until(lambda: server.counters.parked == 6)
        attempts = 0
        hub.change()
        assert [(await client.answer()).body for client in [*clients, other]] == [b"at 1"] * 6
        assert attempts == 2, "once for each target"
        assert server.counters.parked == 0

    serving(test)


def test_those_who_ask_with_the_same_words_while_nothing_changes_wait_without_looking() -> None:
    async def test(server: Serving) -> None:
        hub, looked, asked = server.hub, 0, []
        view = hub.view()

        def wait_ms(request: Any) -> int:
            asked.append(request.peer)
            return 60_000

        def attempt(reader: Any, expired: bool) -> Reply | None:
            nonlocal looked
            looked += 1
            return Reply(200, b"expired" if expired else b"now") if expired or hub.position > 1 else None

        server.face.parked = Park((), attempt, 60_000, alike=Alike(view, wait_ms))
        clients = [await server.client() for _ in range(4)]
        for count, client in enumerate(clients[:3], 1):
            client.send(get("/park"))
            await until(lambda count=count: server.counters.parked == count)  # type: ignore[misc]
        assert looked == 1
        assert len(set(asked)) == len(asked) == 2, "each is asked how long it waits"
        hub.change()
        await until(lambda: looked == 4)
        clients[3].send(get("/park"))
        await until(lambda: server.counters.parked == 4)
        assert looked == 5, "something has changed, so it looks"
        hub.change()
        assert [(await client.answer()).body for client in clients] == [b"now"] * 4

    serving(test)


def test_who_may_not_wait_any_more_is_told_even_where_others_wait_alike() -> None:
    async def test(server: Serving) -> None:
        server.hub.secrets.add("s3cret")
        server.face.parked = Park((), lambda *_: None, 60_000, alike=Alike(server.hub.view(), lambda _: 60_000))
        clients = [await server.client() for _ in range(3)]
        clients[0].send(get("/park", "X-Token: s3cret"))
        await until(lambda: server.counters.parked == 1)
        clients[1].send(get("/park", "X-Token: s3cret"))
        await until(lambda: server.counters.parked == 2)
        assert (await clients[2].get("/park", "X-Token: s3cret")).body.startswith(b"over_limit")
        clients[0].cut()
        await until(lambda: server.counters.parked == 1)
        server.hub.secrets.discard("s3cret")
        assert (await clients[2].get("/park", "X-Token: s3cret")).status == 401

    serving(test, parked_per_address_max=2)
