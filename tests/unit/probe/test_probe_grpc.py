from __future__ import annotations

import asyncio

import pytest
from probe_world import GROUND, look, serving

from free_ports import free_port
from townhall.model.check import CheckDefinition, CheckKind, CheckStatus
from townhall.probe import Finding
from townhall.probe.grpc import frame, probe_grpc

PASSING, CRITICAL = CheckStatus.PASSING, CheckStatus.CRITICAL
SETTINGS = frame(4, 0, 0)


def message(status: int) -> bytes:
    body = bytes((0x08, status)) if status else b""
    return b"\0" + len(body).to_bytes(4, "big") + body


def ask(reply: bytes, *, target: str = "/web", service: str = "") -> tuple[Finding, bytes]:
    received = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"\0\0\0\0" not in received or len(received) < 60:
            received.extend(await reader.read(4_096))
        writer.write(reply)
        await writer.drain()

    async def main() -> Finding:
        async with serving(handle) as port:
            definition = CheckDefinition(kind=CheckKind.GRPC, target=f"127.0.0.1:{port}{target}", grpc_service=service)
            return await asyncio.wait_for(probe_grpc(definition, GROUND), 120)

    return asyncio.run(main()), bytes(received)


@pytest.mark.parametrize(
    ("status", "expected"), [(1, PASSING), (0, CRITICAL), (2, CRITICAL), (3, CRITICAL), (9, CRITICAL)]
)
def test_serving_is_passing(status: int, expected: CheckStatus):
    found, received = ask(
        SETTINGS + frame(6, 0, 0, b"12345678") + frame(1, 4, 1, b"\x88") + frame(0, 0, 1, message(status))
    )
    assert found.status is expected
    assert received.startswith(b"PRI * HTTP/2.0")
    assert b"/grpc.health.v1.Health/Check" in received
    assert b"\x0a\x03web" in received


def test_the_service_may_be_named_apart_and_the_answer_in_pieces():
    whole = message(1)
    found, received = ask(
        SETTINGS + frame(0, 0, 1, whole[:3]) + frame(0, 8, 1, b"\x02" + whole[3:] + b"\0\0"), service="db"
    )
    assert found.status is PASSING
    assert b"\x0a\x02db" in received


@pytest.mark.parametrize(
    "reply",
    [
        SETTINGS + frame(1, 5, 1, b"\x88"),
        SETTINGS + frame(3, 0, 1, b"\0\0\0\1"),
        SETTINGS + frame(7, 0, 0, b"\0" * 8),
        SETTINGS + frame(0, 1, 1, b"\0\0"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 200_000,
        SETTINGS * 100,
        b"",
    ],
)
def test_what_is_no_answer_is_critical(reply: bytes):
    assert ask(reply)[0].status is CRITICAL


def test_nobody_there():
    found = look(probe_grpc, CheckDefinition(target=f"127.0.0.1:{free_port()}"))
    assert found.status is CRITICAL
    assert "refused" in found.output
    assert look(probe_grpc, CheckDefinition(target="127.0.0.1:1/" + "x" * 3_000)).status is CRITICAL
