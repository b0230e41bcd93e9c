from __future__ import annotations

import asyncio
import logging

import pytest
from serve_support import FakeFace, Serving, get, post, serving, until

from townhall.face import Reply, Request, Route
from townhall.model.errors import TownhallError


def test_handlers_get_the_whole_request() -> None:
    async def test(server: Serving) -> None:
        server.hub.secrets.add("s3cret")
        client = await server.client()
        client.send(post("/echo?a=1&a=2&b", b"body", "X-Token: s3cret", "X-One: 1", "X-One: 2"))
        await client.answer()
        request: Request = server.face.calls[0]
        assert (request.method, request.path, request.body) == ("POST", "/echo", b"body")
        assert request.query == {"a": ["1", "2"], "b": [""]}
        assert request.headers["x-one"] == "1, 2"
        host, _, port = request.peer.rpartition(":")
        assert (host, int(port)) == ("127.0.0.1", client.writer.get_extra_info("sockname")[1])
        assert (request.actor.token_id, request.actor.address) == ("s3cret", request.peer)
        assert request.live is server.hub.live

    serving(test)


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/refused", 404, b"not_found: no such thing"),
        ("/broken", 500, b"internal: an internal error"),
        ("/broken-head", 500, b"internal: an internal error"),
        ("/nonsense", 500, b"internal: an internal error"),
        ("/empty", 204, b""),
        ("/nowhere", 404, b"no such path"),
    ],
)
def test_whatever_goes_wrong_the_answer_is_complete_and_the_connection_goes_on(
    target: str, status: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        answer = await client.get(target)
        assert answer.status == status
        assert answer.body.startswith(body)
        assert (await client.get("/hello")).status == 200
        assert server.counters.errors == (status == 500)

    with caplog.at_level(logging.CRITICAL if status != 500 else logging.ERROR):
        serving(test)
    if status == 500:
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert target in caplog.text


def test_a_face_that_cannot_even_render_its_errors(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeFace):
        def error(self, error: TownhallError, request: Request | None) -> Reply:
            raise RuntimeError("a second bug")

    async def test(server: Serving) -> None:
        server.server._driver.face = Broken()
        client = await server.client()
        answer = await client.get("/refused")
        assert (answer.status, answer.body) == (500, b"internal error\n")
        assert (await client.get("/hello")).status == 200

    serving(test)
    assert "cannot render" in caplog.text


def test_credentials_are_checked_before_the_handler_is_asked() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        answer = await client.get("/hello", "X-Token: unknown")
        assert (answer.status, answer.body) == (401, b"unauthenticated: unknown token")
        assert server.face.calls == []
        assert (await client.get("/hello")).status == 200

    serving(test)


def test_cached_answers_are_served_again_until_a_change() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        first = await client.get("/cached")
        assert (await client.get("/cached")).body == first.body
        assert (await client.get("/cached", "X-Trace: another head, the same question")).body == first.body
        assert len(server.face.calls) == 1
        assert server.counters.cached == 2
        server.hub.change()
        assert (await client.get("/cached")).body == b"at 1 " + b"x" * 2000
        assert len(server.face.calls) == 2
        client.send(get("/cached", method="HEAD"))
        assert (await client.answer(bodyless=True)).headers["content-length"] == "2005"
        closing = await client.get("/cached", "Connection: close")
        assert closing.headers["connection"] == "close"
        assert closing.body == b"at 1 " + b"x" * 2000
        assert server.counters.successful == 6

    serving(test)


def test_a_cached_answer_is_not_served_to_a_token_that_has_expired() -> None:
    async def test(server: Serving) -> None:
        server.hub.secrets.add("s3cret")
        client = await server.client()
        for _ in range(3):
            assert (await client.get("/cached", "X-Token: s3cret")).status == 200
        assert len(server.face.calls) == 1
        assert (await client.get("/cached", "X-Token: other")).status == 401
        server.hub.secrets.discard("s3cret")
        for _ in range(2):
            assert (await client.get("/cached", "X-Token: s3cret")).status == 401
        assert len(server.face.calls) == 1

    serving(test)


def test_gzip_and_plain_readers_share_a_target() -> None:
    async def test(server: Serving) -> None:
        client = await server.client()
        packed = await client.get("/cached", "Accept-Encoding: gzip")
        plain = await client.get("/cached")
        again = await client.get("/cached", "Accept-Encoding: gzip")
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.body == again.body
        assert plain.body == b"at 0 " + b"x" * 2000

    serving(test)


def test_errors_before_the_face_have_their_own_status() -> None:
    async def test(server: Serving) -> None:
        answer = await server.ask(get("/hello", "Expect: magic"))
        assert (answer.status, answer.body) == (417, b"malformed: an unknown expectation")

    serving(test)


def test_connections_over_the_limit_are_told_so() -> None:
    async def test(server: Serving) -> None:
        kept = [await server.client() for _ in range(3)]
        for client in kept:
            assert (await client.get("/hello")).status == 200
        late = await server.client()
        answer = await late.answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert await late.rest() == b""
        assert server.counters.turned_away == 1
        late.close()
        kept.pop().close()
        await until(lambda: server.counters.open == 2)
        assert (await server.ask(get("/hello"))).status == 200

    serving(test, connections_max=3)
    serving(test, connections_per_address_max=3)


def test_many_clients_at_once() -> None:
    async def test(server: Serving) -> None:
        async def one(index: int) -> None:
            client = await server.client()
            for turn in range(20):
                if turn % 2:
                    answer = await client.get(f"/names/{index}-{turn}")
                    assert f"/names/{index}-{turn} ".encode() in answer.body
                else:
                    client.send(post("/submit", f"{index}-{turn}".encode()))
                    assert (await client.answer()).body.startswith(f"{index}-{turn}@".encode())

        await asyncio.gather(*(one(index) for index in range(50)))
        assert server.counters.successful == 1_000
        assert server.counters.open == 50

    serving(test)


def test_a_table_that_cannot_be_compiled_is_refused_at_once() -> None:
    async def test(server: Serving) -> None:
        face = FakeFace()
        face.routes.append(Route("GET", "/hello", face.hello))
        with pytest.raises(ValueError, match="another row"):
            type(server.server)(face, server.hub)

    serving(test)
