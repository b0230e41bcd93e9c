"""A small HTTP service that is found through Townhall, and leaves without breaking a call.

``python examples/provider.py [REGISTRY]``; stop it with Ctrl-C or SIGTERM.
"""

import asyncio
import sys

import townhall


async def main(registry: str) -> None:
    """Serve until a signal comes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                with provider.track():
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")
                    await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    provider = townhall.Provider(
        registry, service="hello", port=port, ttl=10, on_stop=server.close, handle_signals=True
    )
    async with provider:
        print(f"registered hello at 127.0.0.1:{port}", flush=True)  # noqa: T201
        await provider.wait_stopped()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7500"))
