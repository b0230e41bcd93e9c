"""The listener of its own: what it serves, and who is turned away."""

from __future__ import annotations

import asyncio
import contextlib

from fake_registry import until

from townhall.client.connection import Origin
from townhall.client.http import HttpClient, Request
from townhall.client.interfaces import Interfaces
from townhall.client.well_known import WELL_KNOWN_PATH
from townhall.client.well_known_listener import WellKnownListener
from townhall.model import limits

ONE = Interfaces(methods=["a"])


async def raw(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_it_serves_the_document_and_nothing_else() -> None:
    async def main() -> None:
        listener = WellKnownListener([ONE])
        await listener.open("127.0.0.1")
        async with HttpClient() as http:
            origin = Origin("http", "127.0.0.1", listener.port)
            answer = await http.request(Request(origin, "GET", f"{WELL_KNOWN_PATH}/{ONE.revision}?x=1"))
            assert (answer.status, answer.body) == (200, ONE.data)
            assert (await http.request(Request(origin, "GET", "/"))).status == 404
            assert (await http.request(Request(origin, "DELETE", WELL_KNOWN_PATH))).status == 405
        await listener.close()
        await listener.close()

    asyncio.run(main())


def test_bad_requests_end_without_harm() -> None:
    async def main() -> None:
        listener = WellKnownListener([ONE])
        await listener.open("127.0.0.1")
        assert (await raw(listener.port, b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")
        assert await raw(listener.port, b"x" * (4 * limits.CLIENT_WELL_KNOWN_HEAD_SIZE_MAX)) == b""
        assert (await raw(listener.port, f"GET {WELL_KNOWN_PATH} HTTP/1.1\r\n\r\n".encode())).startswith(
            b"HTTP/1.1 200"
        )
        await listener.close()

    asyncio.run(main())


def test_connections_are_limited_and_end_in_time(monkeypatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_WELL_KNOWN_CONNECTIONS_MAX", 2)
    monkeypatch.setattr(limits, "CLIENT_WELL_KNOWN_TIMEOUT_MS", 1_000)

    async def main() -> None:
        listener = WellKnownListener([ONE])
        await listener.open("127.0.0.1")
        silent = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(2)]
        await until(lambda: len(listener._serving) == 2)
        assert await raw(listener.port, b"GET / HTTP/1.1\r\n\r\n") == b""
        await until(lambda: not listener._serving)
        assert (await raw(listener.port, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404")
        for _, writer in silent:
            writer.close()
        await listener.close()

    asyncio.run(main())


def test_closing_drops_what_runs() -> None:
    async def main() -> None:
        listener = WellKnownListener([ONE])
        await listener.open("127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        await until(lambda: listener._serving)
        await listener.close()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()

    asyncio.run(main())
