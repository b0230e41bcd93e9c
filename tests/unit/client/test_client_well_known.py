"""The metadata endpoint as a function, as ASGI and as WSGI."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from townhall.client.interfaces import Interfaces
from townhall.client.well_known import WELL_KNOWN_PATH, answer, asgi, wsgi

ONE, TWO = Interfaces(methods=["a"]), Interfaces(methods=["b"])
PATH = f"{WELL_KNOWN_PATH}/{ONE.revision}"


def test_documents_are_served_by_revision() -> None:
    found = answer("GET", PATH, [ONE, TWO])
    assert found is not None
    assert (found.status, found.reason, found.body) == (200, "OK", ONE.data)
    headers = dict(found.headers)
    assert headers["etag"] == f'"{ONE.revision}"'
    assert "immutable" in headers["cache-control"]
    assert headers["content-length"] == str(len(ONE.data))


def test_the_list_of_revisions_is_served() -> None:
    for path in (WELL_KNOWN_PATH, WELL_KNOWN_PATH + "/"):
        found = answer("GET", path, [ONE, TWO])
        assert found is not None
        assert json.loads(found.body) == {"revisions": sorted([ONE.revision, TWO.revision])}


def test_head_has_no_body_and_other_methods_are_refused() -> None:
    head = answer("HEAD", PATH, [ONE])
    assert head is not None
    assert head.body == b""
    assert dict(head.headers)["content-length"] == str(len(ONE.data))
    refused = answer("POST", PATH, [ONE])
    assert refused is not None
    assert refused.status == 405
    assert dict(refused.headers)["allow"] == "GET, HEAD"


@pytest.mark.parametrize("rest", ["/" + "0" * 32, "/../../etc/passwd", f"/{ONE.revision}/more", "/x"])
def test_another_revision_is_not_found(rest: str) -> None:
    found = answer("GET", WELL_KNOWN_PATH + rest, [ONE])
    assert found is not None
    assert found.status == 404


@pytest.mark.parametrize("path", ["", "/", "/users/1", "/.well-known/townhall", WELL_KNOWN_PATH + "s"])
def test_other_paths_are_not_for_it(path: str) -> None:
    assert answer("GET", path, [ONE]) is None


async def through(app: Any, path: str, kind: str = "http") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    await app({"type": kind, "method": "GET", "path": path}, receive, send)
    return sent


def test_asgi_serves_and_passes_on() -> None:
    async def main() -> None:
        passed = []

        async def inner(scope: Any, receive: Any, send: Any) -> None:
            passed.append((scope["type"], scope.get("path")))

        app = asgi([ONE], inner)
        start, body = await through(app, PATH)
        assert (start["status"], body["body"]) == (200, ONE.data)
        assert (b"content-type", b"application/json") in start["headers"]
        assert await through(app, "/users") == []
        assert await through(app, PATH, "websocket") == []
        assert passed == [("http", "/users"), ("websocket", PATH)]
        alone = asgi([ONE])
        assert (await through(alone, "/users"))[0]["status"] == 404
        assert await through(alone, "", "lifespan") == []

    asyncio.run(main())


def test_wsgi_serves_and_passes_on() -> None:
    started: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]]) -> None:
        started.append(status)

    app = wsgi([ONE], lambda environ, start: [b"inner"])
    assert app({"REQUEST_METHOD": "GET", "PATH_INFO": PATH}, start) == [ONE.data]
    assert app({"REQUEST_METHOD": "GET", "PATH_INFO": "/users"}, start) == [b"inner"]
    mounted = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/.well-known", "PATH_INFO": PATH.removeprefix("/.well-known")}
    assert app(mounted, start) == [ONE.data]
    assert list(wsgi([ONE])({"REQUEST_METHOD": "GET", "PATH_INFO": "/users"}, start)) != []
    assert started == ["200 OK", "200 OK", "404 Not Found"]
