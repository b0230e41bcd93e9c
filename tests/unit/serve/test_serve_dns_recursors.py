"""Asking recursors: over TCP, answers that do not belong, bounded time and count."""

from __future__ import annotations

import asyncio

import asyncio_servers
from townhall.model import limits
from townhall.serve.dns_options import DnsServerOptions, Recursor
from townhall.serve.dns_recursors import Recursors
from townhall.wire.dns import SERVFAIL, Message, Question, parse_message, parse_query, render
from townhall.wire.dns_names import name_of
from townhall.wire.dns_records import A

QUESTION = Question(name_of("example.test"), A)


def asking(*behaviours, timeout_ms: int = 60_000) -> bytes | None:
    """What one question over TCP gives, with a recursor for each behaviour (query → answers' bytes)."""

    async def run() -> bytes | None:
        servers = []
        for behave in behaviours:

            async def serve(reader, writer, behave=behave):
                size = int.from_bytes(await reader.readexactly(2), "big")
                data = behave(parse_query(await reader.readexactly(size)))
                if data is not None:
                    writer.write(data)
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()

            servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        known = tuple(Recursor(*server.sockets[0].getsockname()) for server in servers)
        try:
            return await Recursors(known, timeout_ms=timeout_ms).ask(QUESTION, edns=None, tcp=True)
        finally:
            for server in servers:
                await asyncio_servers.close(server)

    return asyncio.run(run())


def framed(message: Message) -> bytes:
    data = render(message)
    return len(data).to_bytes(2, "big") + data


def good(query) -> bytes:
    return framed(Message(id=query.header.id, question=query.question))


def test_an_answer_over_tcp():
    found = asking(good)
    assert found is not None
    assert parse_message(found).question == QUESTION


def test_the_next_one_is_asked_after_anything_unusable():
    other = Question(name_of("other.test"), A)
    bad = [
        lambda query: b"\0\5abc",
        lambda query: b"\0\3abc",
        lambda query: framed(Message(id=query.header.id ^ 1, question=query.question)),
        lambda query: framed(Message(id=query.header.id, question=other)),
        lambda query: framed(Message(id=query.header.id, question=query.question, response=False)),
        lambda query: framed(Message(id=query.header.id, question=query.question, rcode=SERVFAIL)),
    ]
    assert asking(*bad) is None
    assert asking(*bad, good) is not None


def test_only_so_many_are_asked():
    known = tuple(Recursor("127.0.0.1", 1) for _ in range(limits.DNS_RECURSORS_COUNT_MAX + 5))
    assert len(Recursors(known, timeout_ms=1)._recursors) == limits.DNS_RECURSORS_COUNT_MAX
    assert DnsServerOptions().recursor_timeout_ms == limits.DNS_RECURSOR_TIMEOUT_MS
