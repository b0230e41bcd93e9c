"""HTTP/2 connections on sockets: beginnings, ends, stalls and shutdown."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
import trustme
from grpc_serving import GrpcServing, H2Client, grpc_serving
from serve_support import Client, get, run_loop, until

from townhall.face import Pulled, Stream
from townhall.face.grpc import Code, framed
from townhall.model import limits
from townhall.serve import calls, http2
from townhall.serve.entry import Entry
from townhall.serve.peers import Peers
from townhall.serve.tls import Certificates, TlsOptions
from townhall.wire.http2 import PREFACE, ErrorCode, frames


def test_both_protocols_on_one_port() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        old = Client(*await asyncio.open_connection(*server.address))
        assert (await old.get("/hello")).status == 200
        assert (await client.call("/toy.Toy/Echo", b"x")).messages == [b"x"]
        assert server.server.counters is not None
        assert (server.server.counters.accepted, server.counters.accepted) == (1, 1)
        old.close()

    grpc_serving(test)


def test_the_first_bytes_may_come_one_by_one() -> None:
    async def test(server: GrpcServing) -> None:
        reader, writer = await asyncio.open_connection(*server.address)
        for byte in PREFACE + frames.settings({}):
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.001)
        client = H2Client(reader, writer)
        server.clients.append(client)
        await client.until(lambda: client.settings)
        assert (await client.call("/toy.Toy/Echo", b"x")).messages == [b"x"]
        old = Client(*await asyncio.open_connection(*server.address))
        old.send(b"P")
        await asyncio.sleep(0.01)
        old.send(b"UT")
        await asyncio.sleep(0.01)
        old.send(get("/hello")[3:])
        assert (await old.answer()).status == 405
        old.close()

    grpc_serving(test)


def test_a_port_for_grpc_alone_says_so() -> None:
    async def test(server: GrpcServing) -> None:
        old = Client(*await asyncio.open_connection(*server.address))
        answer = await old.get("/hello")
        assert (answer.status, answer.body) == (505, b"this port speaks gRPC alone\n")
        assert await old.rest() == b""
        old.close()
        assert server.server.counters is None

    grpc_serving(test, http=False)


def test_who_says_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: GrpcServing) -> None:
        for said in (b"", b"P", PREFACE):
            client = await server.raw()
            client.send(said)
            await client.until(lambda client=client: client.closed)  # type: ignore[misc]
        # The last one acknowledges our SETTINGS before it has sent its own.
        assert (server.counters.timed_out, server.counters.malformed) == (2, 1)

    grpc_serving(test, header_timeout_ms=400)


def test_too_many_connections() -> None:
    async def test(server: GrpcServing) -> None:
        await server.client()
        crowded = await server.raw()
        await crowded.until(lambda: crowded.closed)
        assert server.counters.turned_away == 1

    grpc_serving(test, connections_max=1)


def test_a_silent_peer_is_asked_and_a_dead_one_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "HTTP2_PING_AFTER_MS", 50)
    # Long enough for a client that shares a busy core with its server.
    monkeypatch.setattr(http2, "HTTP2_PING_TIMEOUT_MS", 2_000)
    assert limits.HTTP2_PING_AFTER_MS > limits.HTTP2_PING_TIMEOUT_MS

    async def test(server: GrpcServing) -> None:
        client = await server.client()
        pings = lambda: sum(kind == frames.PING for kind, *_ in client.frames)  # noqa: E731
        await client.until(lambda: pings() >= 2)
        assert not client.closed
        dead = await server.client()
        dead._task.cancel()
        await until(lambda: server.counters.timed_out >= 1)
        assert (await client.call("/toy.Toy/Echo", b"x")).messages == [b"x"]

    # Silence is looked for when the time for the first SETTINGS would have been over, and from then on as it is due.
    grpc_serving(test, header_timeout_ms=2_000)


def test_a_peer_that_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "STREAM_STALL_TIMEOUT_MS", 200)

    async def test(server: GrpcServing) -> None:
        slow = await server.client({4: 10})
        slow.generous = False
        number = slow.start("/toy.Toy/Large", b"100")
        for taken in range(10, 70, 10):
            await slow.until(lambda taken=taken: len(slow.answers[number].data) == taken)  # type: ignore[misc]
            await asyncio.sleep(0.05)
            slow.send(frames.window_update(number, 10))
        await slow.until(lambda: slow.closed)
        assert server.counters.timed_out == 1

    grpc_serving(test)


def test_a_peer_that_reads_slowly_holds_little(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(server: GrpcServing) -> None:
        server.face.stream = Stream((), lambda reader: Pulled(framed(b"x" * 100_000), more=True))
        client = await server.client({4: 2**31 - 1})
        client.send(frames.window_update(0, 2**31 - 1 - 65_535))
        client._task.cancel()
        client.start("/toy.Toy/Stream")
        peer: Any = None

        def found() -> bool:
            nonlocal peer
            peer = next(iter(server.server._peers.connections))
            return bool(peer.blocked)

        await until(found)
        await asyncio.sleep(0.05)
        assert peer._transport.get_write_buffer_size() < 4 * limits.HTTP2_WRITE_BUFFER_SIZE_MAX
        assert peer.outbox.unsent < 4 * limits.HTTP2_WRITE_BUFFER_SIZE_MAX
        client._task = asyncio.ensure_future(client._read())
        await client.until(lambda: len(client.answers[1].data) > 2_000_000)

    grpc_serving(test)


def test_stopping_says_goodbye_twice_and_lets_writes_finish() -> None:
    async def test(server: GrpcServing) -> None:
        server.hub.hold = True
        server.face.stream = Stream((), server.face.pull, leaving=framed(b"leaving"))
        client = await server.client()
        written, parked = client.start("/toy.Toy/Submit", b"a"), client.start("/toy.Toy/Park")
        stream, chat = client.start("/toy.Toy/Stream"), client.open("/toy.Toy/Chat")
        await until(lambda: server.counters.streams == 2 and server.counters.parked == 1)
        stopping = asyncio.create_task(server.server.stop(10_000))
        for number in (parked, stream, chat):
            assert (await client.ended(number)).status == Code.UNAVAILABLE
        assert client.answers[stream].messages == [b"leaving"]
        late = client.start("/toy.Toy/Echo", b"on its way")
        assert (await client.ended(late)).messages == [b"on its way"]
        await client.until(lambda: len(client.goaways) == 2)
        assert client.goaways == [(2**31 - 1, 0), (late, 0)]
        refused = client.start("/toy.Toy/Echo")
        assert (await client.ended(refused)).error == ErrorCode.REFUSED_STREAM
        assert not stopping.done()
        server.hub.release()
        assert (await client.ended(written)).messages == [b"a@1"]
        await stopping
        assert server.face.closed == []

    grpc_serving(test)


def test_a_broken_connection_says_why() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        client.start("/toy.Toy/Park")
        await until(lambda: server.counters.parked == 1)
        client.send(frames.frame(frames.PING, 0, 0, b"short"))
        await client.until(lambda: client.closed)
        assert client.goaways == [(1, ErrorCode.FRAME_SIZE_ERROR)]
        assert server.face.abandoned == 1
        assert server.counters.malformed == 1

    grpc_serving(test)


def test_alpn_and_the_name_on_a_clients_certificate(tmp_path: Any) -> None:
    authority = trustme.CA()
    server_certificate = authority.issue_cert("127.0.0.1")
    server_certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificates = Certificates(
        TlsOptions(
            cert_file=str(tmp_path / "server.pem"),
            key_file=str(tmp_path / "server.pem"),
            client_ca_file=str(tmp_path / "ca.pem"),
        )
    )

    async def run() -> None:
        server = GrpcServing()
        host, port = await server.server.start("127.0.0.1", 0, ssl=certificates.mixed_context)
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        authority.issue_cert("client.test", common_name="alice").configure_cert(context)
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        client = await H2Client(reader, writer).begin()
        assert (await client.call("/toy.Toy/Echo", b"x" * 100_000)).status == Code.OK
        assert server.face.calls[0].certificate == "alice"
        assert server.hub.certified == ("toys", "alice")
        client.close()
        context.set_alpn_protocols(["h2", "http/1.1"])
        old = Client(*await asyncio.open_connection(host, port, ssl=context))
        assert old.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert (await old.get("/hello")).status == 200
        old.close()
        await server.server.stop(0)

    run_loop(run())


def test_an_entry_that_is_left_before_it_said_anything() -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.raw()
        peers: Peers = server.server._peers
        await until(lambda: any(isinstance(peer, Entry) for peer in peers.connections))
        client.close()
        await until(lambda: not peers.connections)
        client = await server.raw()
        await until(lambda: peers.connections)
        await server.server.stop(10_000)
        await client.until(lambda: client.closed)

    grpc_serving(test)


def test_a_bug_of_ours_ends_its_connection_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(server: GrpcServing) -> None:
        client, other = await server.client(), await server.client()
        driver = server.server._calls
        assert driver is not None
        with monkeypatch.context() as patch:
            patch.setattr(driver, "execute", lambda *arguments: 1 / 0)
            client.start("/toy.Toy/Echo", b"x")
            await client.until(lambda: client.closed)
        assert server.counters.errors == 1
        assert (await other.call("/toy.Toy/Echo", b"x")).messages == [b"x"]

    grpc_serving(test)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("path", ["/toy.Toy/Echo", "/toy.Toy/Small", "/toy.Toy/Submit", "/toy.Toy/Broken"])
def test_a_request_in_one_piece_is_answered_like_one_in_two(path: str) -> None:
    async def test(server: GrpcServing) -> None:
        client = await server.client()
        await client.call(path, b"x")
        for body in (
            framed(b"abc"),
            framed(b"a" * 11),
            b"",
            b"\0\0\0\0\5abc",
            b"\1\0\0\0\1x",
            framed(b"a") + framed(b"b"),
        ):
            found = []
            for apart in (False, True):
                number = client.open(path)
                if apart:
                    client.data(number, body[:2])
                    await asyncio.sleep(0.01)
                client.data(number, body[2:] if apart else body, ends=True)
                answer = await client.ended(number)
                said = [message.partition(b"@")[0] for message in answer.messages]
                found.append((answer.fields, said, answer.error))
            assert found[0] == found[1]

    grpc_serving(test)
