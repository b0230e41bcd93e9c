from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, cast

from townhall.ops.demo.provider import NameServer


class Tracked:
    """As much of a provider as a server needs."""

    @contextlib.contextmanager
    def track(self) -> Iterator[None]:
        yield


def test_what_comes_late_is_answered_before_it_ends() -> None:
    async def main() -> None:
        server = NameServer("alpha", work_s=0.05)
        server.provider = cast("Any", Tracked())
        reader, writer = await asyncio.open_connection("127.0.0.1", await server.start())
        server.close()
        finishing = asyncio.create_task(server.finish())
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            assert await reader.readexactly(6) == b"alpha\n"
            assert not finishing.done()
        await finishing
        assert await reader.read() == b""
        writer.close()

    asyncio.run(main())
