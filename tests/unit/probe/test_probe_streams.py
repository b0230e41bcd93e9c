"""TCP, UDP, and what all probers over connections share."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import pytest
import trustme
from probe_world import GROUND, answering, look, serving

import asyncio_servers
from free_ports import free_port
from townhall.model.check import CheckDefinition, CheckKind, CheckStatus
from townhall.probe import Finding, Ground, connection
from townhall.probe.connection import Target, failed, split_target, why
from townhall.probe.ranges import Ranges
from townhall.probe.tcp import probe_tcp
from townhall.probe.udp import probe_udp


def tcp(target: str, **fields: object) -> CheckDefinition:
    return CheckDefinition(kind=CheckKind.TCP, target=target, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "target"), [("127.0.0.1:80", Target("127.0.0.1", 80)), ("[::1]:80", Target("::1", 80)), ("a:1", ("a", 1))]
)
def test_targets(text: str, target: Target):
    assert split_target(text) == target


@pytest.mark.parametrize("text", ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "a:b"])
def test_targets_that_are_none(text: str):
    with pytest.raises(ValueError, match="host:port"):
        split_target(text)
    assert look(probe_tcp, tcp(text)).status is CheckStatus.CRITICAL
    assert look(probe_udp, tcp(text)).status is CheckStatus.CRITICAL


def test_words_for_failures():
    assert why(TimeoutError()) == "timed out"
    assert why(ConnectionRefusedError(111, "x")) == "connection refused"
    assert why(asyncio.IncompleteReadError(b"", 1)) == "the connection was closed early"
    assert why(ValueError("bad")) == "bad"
    assert failed("x") == Finding(CheckStatus.CRITICAL, "x")


def test_who_accepts_is_well():
    async def main() -> Finding:
        async with serving(answering(b"")) as port:
            return await probe_tcp(tcp(f"127.0.0.1:{port}"), GROUND)

    found = asyncio.run(main())
    assert found.status is CheckStatus.PASSING
    assert found.output.endswith("Success")


def test_who_does_not_is_not():
    found = look(probe_tcp, tcp(f"127.0.0.1:{free_port()}"))
    assert found.status is CheckStatus.CRITICAL
    assert "connection refused" in found.output


def test_what_may_not_be_dialled_is_not_dialled():
    shut = Ground(Ranges((), ("127.0.0.0/8",)), 5_000)
    found = look(probe_tcp, tcp("127.0.0.1:80"), shut)
    assert found.status is CheckStatus.CRITICAL
    assert "may not be probed" in found.output
    assert look(probe_udp, tcp("127.0.0.1:80"), shut).status is CheckStatus.CRITICAL


def test_tls_is_verified_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    authority = trustme.CA()
    certificate = authority.issue_cert("town.test")
    contexts = {verify: partial_context(authority, verify) for verify in (True, False)}
    monkeypatch.setattr(connection, "tls_context", lambda verify, protocols=(): contexts[verify])

    async def main() -> list[CheckStatus]:
        import ssl

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        looks = [
            await probe_tcp(tcp(where, tls=True, tls_server_name="town.test"), GROUND),
            await probe_tcp(tcp(where, tls=True), GROUND),
            await probe_tcp(tcp(where, tls=True, tls_skip_verify=True), GROUND),
        ]
        await asyncio_servers.close(server)
        await server.wait_closed()
        return [each.status for each in looks]

    assert asyncio.run(main()) == [CheckStatus.PASSING, CheckStatus.CRITICAL, CheckStatus.PASSING]


def partial_context(authority: trustme.CA, verify: bool) -> object:
    context = connection.tls_context.__wrapped__(verify)
    authority.configure_trust(context)
    return context


def test_udp_silence_is_consent_and_refusal_is_not():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as quiet:
        quiet.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{quiet.getsockname()[1]}"
        assert look(probe_udp, tcp(where), Ground(Ranges(), 100)).status is CheckStatus.PASSING
        assert quiet.recv(10) == b"\n"
    found = look(probe_udp, tcp(where))
    assert found.status is CheckStatus.CRITICAL
    assert "refused" in found.output


def test_udp_an_answer_ends_the_wait():
    async def main() -> Finding:
        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
                self.transport = transport

            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                self.transport.sendto(data, addr)

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        look_once = partial(probe_udp, tcp(f"127.0.0.1:{port}", body="ping"), Ground(Ranges(), 60_000))
        try:
            return await asyncio.wait_for(look_once(), 120)
        finally:
            transport.close()

    assert asyncio.run(main()).status is CheckStatus.PASSING
