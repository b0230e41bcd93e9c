"""A gRPC server with one small face over a real hub, for programs that try HTTP/2 itself: ``echo.py PORT``.

``/echo.Echo/Unary`` gives back its message, ``/echo.Echo/Down`` counts down from it in a stream, ``/echo.Echo/Both`` gives
back each message of a stream.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

from townhall.core.queries import Reader
from townhall.engine.memory import MemoryEngine
from townhall.face import Duplex, EndOfStream, Pulled, Reply, Stream
from townhall.face.grpc import Call, Code, Kind, Method, framed
from townhall.hub.hub import Hub, HubOptions
from townhall.model.errors import TownhallError
from townhall.serve.server import HttpServer


class Echo:
    """The face."""

    name = "echo"

    def __init__(self) -> None:
        self.methods = [
            Method("/echo.Echo/Unary", lambda call, reader: Reply(Code.OK, call.message)),
            Method("/echo.Echo/Down", self.down, Kind.SERVER_STREAM),
            Method("/echo.Echo/Both", self.both, Kind.DUPLEX),
        ]

    def down(self, call: Call, reader: Reader) -> Stream:
        left = int(call.message or b"0")

        def pull(reader: Reader) -> Pulled:
            nonlocal left
            if not left:
                raise EndOfStream
            left -= 1
            return Pulled(framed(b"%d" % left), more=True)

        return Stream((), pull)

    def both(self, call: Call, reader: Reader) -> Duplex:
        return Duplex(Stream((), lambda reader: None), lambda reader, message: [framed(message)], lambda clean: ())

    def credentials(self, metadata: Mapping[str, str]) -> str:
        return ""

    def error(self, error: TownhallError, call: Call | None) -> Reply:
        return Reply(Code.UNKNOWN, str(error).encode())


async def main(port: int) -> None:
    hub = Hub.open(MemoryEngine(), HubOptions())
    await hub.start()
    server = HttpServer(None, hub, grpc=Echo())
    host, port = await server.start("127.0.0.1", port)
    print(f"{host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(int(sys.argv[1])))
    else:
        uvloop.run(main(int(sys.argv[1])))
