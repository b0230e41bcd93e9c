"""One instance of the service ``greeter`` as a process of its own: registers, answers with its name, leaves in order.

``python gateway_instance.py SERVER NAME``; SIGTERM drains it. When everybody knows, it says so, and still answers what was
sent to it before: it ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import sys

from townhall.client.provider import Provider

SERVICE = "greeter"


class Server:
    """HTTP/1.1 as our gateway speaks it; bodies have a length."""

    def __init__(self, name: str) -> None:
        self.body = name.encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
                await reader.readexactly(length)
                await asyncio.sleep(0.002)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.body), self.body))
        except (OSError, EOFError):
            writer.close()


async def main(url: str, name: str) -> None:
    server = Server(name)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    provider = Provider(
        url,
        service=SERVICE,
        port=port,
        address="127.0.0.1",
        id=name,
        ttl=6.0,
        handle_signals=True,
        drain_on_stop=True,
        drain_deadline=20.0,
    )
    await provider.start()
    print("ready", flush=True)  # noqa: T201
    await provider.wait_stopped()
    print("drained", flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
