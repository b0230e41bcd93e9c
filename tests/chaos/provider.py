"""One provider of the chaos tests, a process of its own: a small HTTP server that answers its name.

Commands come on standard input, a line each: ``work SECONDS`` (how long each answer takes), ``address IP`` (the
machine's address is another one now), ``leave`` (stop as on SIGTERM). When the input ends, the test is gone and so are
we. What happens is said on standard output, one JSON object a line: ``{"registered": …}``, ``{"waits": …}`` (for a
registry), ``{"failed": …}`` and each alarm of the SDK as ``{"alarm": …}``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys

import townhall
from townhall.client import network_interfaces
from townhall.client.network_interfaces import InterfaceAddress
from townhall.model import limits

NETWORK = "127.9.0.0/24"


def say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Answers:
    """HTTP/1.1 with keep-alive; every request is answered with our name, at one address or, after a move, another."""

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.host = host
        self.port = 0
        self.work_s = 0.0
        self.provider: townhall.Provider | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def move(self, host: str) -> None:
        """As when the machine's address changes: the old one is gone at once, with all connections to it."""
        old, self.host = self._server, host
        await self.listen()
        assert old is not None
        old.close()
        for writer in tuple(self._open):
            writer.transport.abort()

    def close(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with contextlib.suppress(OSError, EOFError):
                while await reader.readuntil(b"\r\n\r\n"):
                    await self._answer(writer)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        assert self.provider is not None
        with self.provider.track():
            await asyncio.sleep(self.work_s)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(self.name), self.name.encode()))
            await writer.drain()


async def main(options: argparse.Namespace) -> int:
    answers = Answers(options.name, options.host)
    await answers.listen()
    if options.follow:
        # No test may change this machine's addresses, so its list of them is ours; all behind it is the SDK's own.
        network_interfaces.interface_addresses = lambda: [InterfaceAddress("lo", answers.host)]
        limits.CLIENT_ADDRESS_INTERVAL_MS = 200  # type: ignore[misc]
    place = {"networks": [NETWORK]} if options.follow else {"address": options.host}
    answers.provider = provider = townhall.Provider(
        options.server,
        service=options.service,
        port=options.advertise or answers.port,
        id=options.name,
        ttl=options.ttl,
        name=options.name,
        on_alarm=lambda alarm: say(alarm=alarm.kind.value, message=alarm.message),
        on_stop=answers.close,
        handle_signals=True,
        start_without_registry=options.patient,
        drain_on_stop=True,
        drain_deadline=10.0,
        **place,
    )
    try:
        await provider.start()
    except townhall.TownhallError as error:
        say(failed=type(error).__name__, message=str(error))
        return 1
    say(**{"registered" if provider.instances else "waits": options.name}, port=answers.port)
    loop = asyncio.get_running_loop()
    listening = loop.create_task(obey(answers))
    await provider.wait_stopped()
    listening.cancel()
    return 0


async def obey(answers: Answers) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command, _, value = line.decode().strip().partition(" ")
        if command == "work":
            answers.work_s = float(value)
        elif command == "address":
            await answers.move(value)
        say(done=command)
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--service", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--ttl", type=float, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--advertise", type=int, default=0)
    parser.add_argument("--patient", action="store_true")
    parser.add_argument("--follow", action="store_true")
    code = asyncio.run(main(parser.parse_args()))
    os._exit(code)
