"""Asks recursors about names of other domains, one after the other."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from townhall.model import limits
from townhall.model.errors import Malformed
from townhall.serve.dns_options import Recursor
from townhall.wire.dns import NOERROR, NXDOMAIN, Edns, Message, Question, header_of, parse_message, render

__all__ = ["Recursors"]

_RANDOM: Final = random.SystemRandom()
"""Ids and, through fresh sockets, ports that a forger cannot foresee (RFC 5452)."""


class Recursors:
    """Sequential, as Consul's default: the next one is asked when one is silent, or fails."""

    def __init__(self, recursors: tuple[Recursor, ...], *, timeout_ms: int) -> None:
        self._recursors = recursors[: limits.DNS_RECURSORS_COUNT_MAX]
        self._timeout_s = timeout_ms / 1000

    async def ask(self, question: Question, *, edns: Edns | None, tcp: bool) -> bytes | None:
        """The answer as it came, its id ours; None when no recursor gave a usable one."""
        for recursor in self._recursors:
            message = Message(
                id=_RANDOM.randrange(65_536), question=question, response=False, recursion_desired=True,
                edns=None if edns is None else Edns(edns.size, 0, edns.dnssec),
            )  # fmt: skip
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await (self._stream if tcp else self._datagram)(recursor, message)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, Malformed):
                continue
            if header_of(answer).rcode in (NOERROR, NXDOMAIN):
                return answer
        return None

    async def _datagram(self, recursor: Recursor, message: Message) -> bytes:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Listening(found, message), remote_addr=(recursor.host, recursor.port)
        )
        try:
            transport.sendto(render(message))
            return await found
        finally:
            transport.close()

    async def _stream(self, recursor: Recursor, message: Message) -> bytes:
        reader, writer = await asyncio.open_connection(recursor.host, recursor.port)
        try:
            data = render(message)
            writer.write(len(data).to_bytes(2, "big") + data)
            size = int.from_bytes(await reader.readexactly(2), "big")
            answer = await reader.readexactly(size)
        finally:
            writer.close()
        if not _belongs(answer, message):
            raise Malformed("an answer to another question")
        return answer


class _Listening(asyncio.DatagramProtocol):
    """Takes the first answer that belongs to the question; others are forged or late."""

    def __init__(self, found: asyncio.Future[bytes], message: Message) -> None:
        self._found = found
        self._message = message

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._found.done() and _belongs(data, self._message):
            self._found.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._found.done():
            self._found.set_exception(exc)


def _belongs(data: bytes, asked: Message) -> bool:
    try:
        answer = parse_message(data)
    except Malformed:
        return False
    question = answer.question
    assert asked.question is not None
    return (
        answer.response
        and answer.id == asked.id
        and question is not None
        and question.name.lower() == asked.question.name.lower()
        and question[1:] == asked.question[1:]
    )
