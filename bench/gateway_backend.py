"""A backend for ``bench.gateway``: answers every request with the same bytes, as cheaply as Python can.

``python -m bench.gateway_backend PORT SIZE``. It knows only requests without a body, which is what the load sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any


class Backend(asyncio.Protocol):
    """One connection."""

    answer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.tail = b""

    def data_received(self, data: bytes) -> None:
        data = self.tail + data
        count = data.count(b"\r\n\r\n")
        self.tail = data.rpartition(b"\r\n\r\n")[2]
        self.transport.write(self.answer * count)


async def main(port: int, size: int) -> None:
    """Serve until killed."""
    Backend.answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    )
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
