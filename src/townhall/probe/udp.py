"""UDP: silence is consent. Only a refusal, which the kernel hears as ICMP, is a failure."""

from __future__ import annotations

import asyncio

from townhall.model.check import CheckDefinition, CheckStatus
from townhall.probe import Finding, Ground
from townhall.probe.connection import FAILURES, failed, split_target, why
from townhall.probe.ranges import permitted_address

__all__ = ["probe_udp"]


class _Listener(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self.answer.done():
            self.answer.set_result(None)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def probe_udp(definition: CheckDefinition, ground: Ground) -> Finding:
    """Send a datagram (the check's body, or a line feed) and wait for an answer, a refusal or the timeout."""
    try:
        target = split_target(definition.target)
        address = await permitted_address(target.host, ground.ranges)
        loop = asyncio.get_running_loop()
        transport, listener = await loop.create_datagram_endpoint(_Listener, remote_addr=(address, target.port))
        try:
            transport.sendto(definition.body.encode() or b"\n")
            await asyncio.wait_for(listener.answer, ground.timeout_ms / 1000)
        except TimeoutError:
            pass
        finally:
            transport.abort()
    except FAILURES as error:
        return failed(f"udp {definition.target}: {why(error)}")
    return Finding(CheckStatus.PASSING, f"UDP connect {definition.target}: Success")
