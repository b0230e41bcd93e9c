from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme
from serve_support import Client, FakeFace, FakeHub, Serving, get, post, run_loop, until

from townhall.face import Reply
from townhall.model.errors import InvalidField
from townhall.serve.options import HttpOptions
from townhall.serve.server import HttpServer
from townhall.serve.tls import Certificates, TlsOptions


class Files:
    """A server's files, which can be replaced, and clients that trust them."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key, self.clients = folder / "cert.pem", folder / "key.pem", folder / "clients.pem"
        self.servers_ca = self.issue_server()
        self.clients_ca = self.issue_clients_ca()

    def issue_server(self) -> trustme.CA:
        ca = trustme.CA()
        cert = ca.issue_cert("localhost", "127.0.0.1")
        cert.private_key_pem.write_to_path(self.key)
        self.cert.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
        return ca

    def issue_clients_ca(self) -> trustme.CA:
        ca = trustme.CA()
        ca.cert_pem.write_to_path(self.clients)
        return ca

    def options(self, *, client_ca: bool = False, required: bool = True) -> TlsOptions:
        return TlsOptions(
            cert_file=str(self.cert),
            key_file=str(self.key),
            client_ca_file=str(self.clients) if client_ca else "",
            client_required=required,
        )

    def context(self, *, trust: trustme.CA | None = None, own: trustme.CA | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context()
        (trust or self.servers_ca).configure_trust(context)
        if own is not None:
            own.issue_cert("client@localhost").configure_cert(context)
        return context


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def ask(address: tuple[str, int], context: ssl.SSLContext, *, name: str | None = None) -> int:
    """The status of one request; raises what the handshake raises."""
    client = Client(*await asyncio.open_connection(*address, ssl=context, server_hostname=name or "localhost"))
    try:
        return (await client.get("/hello")).status
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        # With TLS 1.3 the client's handshake is over before the server has looked at its certificate.
        raise ssl.SSLError("closed after the handshake") from error
    finally:
        client.writer.transport.abort()


def served(certificates: Certificates, test: object) -> None:
    async def run() -> None:
        server = HttpServer(FakeFace(), FakeHub(), HttpOptions())
        address = await server.start("127.0.0.1", 0, ssl=certificates.context)
        try:
            await test(address)  # type: ignore[operator]
        finally:
            await server.stop(100)
        assert server.counters.open == 0

    run_loop(run())


def test_requests_over_tls_and_nothing_older_than_1_2(files: Files) -> None:
    async def test(address: tuple[str, int]) -> None:
        assert await ask(address, files.context()) == 200
        assert await ask(address, files.context(), name="127.0.0.1") == 200, "a client without SNI"
        with pytest.raises(ssl.SSLError):
            await ask(address, files.context(trust=trustme.CA()))
        for version, works in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
            context = files.context()
            context.minimum_version = context.maximum_version = version
            assert (await ask(address, context) == 200) is works

    certificates = Certificates(files.options())
    assert certificates.context.minimum_version == ssl.TLSVersion.TLSv1_2
    served(certificates, test)


def test_clients_must_show_a_certificate_when_it_is_required(files: Files) -> None:
    async def test(address: tuple[str, int]) -> None:
        assert await ask(address, files.context(own=files.clients_ca)) == 200
        for context in (files.context(), files.context(own=trustme.CA())):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await ask(address, context)

    served(Certificates(files.options(client_ca=True)), test)


def test_clients_may_show_a_certificate_when_it_is_optional(files: Files) -> None:
    async def test(address: tuple[str, int]) -> None:
        assert await ask(address, files.context()) == 200
        assert await ask(address, files.context(own=files.clients_ca)) == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(address, files.context(own=trustme.CA()))

    served(Certificates(files.options(client_ca=True, required=False)), test)


def test_new_files_without_a_restart(files: Files) -> None:
    certificates = Certificates(files.options(client_ca=True))

    async def test(address: tuple[str, int]) -> None:
        before, old = files.clients_ca, files.servers_ca
        kept = Client(
            *await asyncio.open_connection(*address, ssl=files.context(own=before), server_hostname="localhost")
        )
        assert (await kept.get("/hello")).status == 200
        files.servers_ca, files.clients_ca = files.issue_server(), files.issue_clients_ca()
        assert await ask(address, files.context(trust=old, own=before)) == 200, "nothing changes by itself"
        certificates.reload()
        for name in ("localhost", "127.0.0.1"):
            assert await ask(address, files.context(own=files.clients_ca), name=name) == 200
        with pytest.raises(ssl.SSLError):
            await ask(address, files.context(trust=old, own=files.clients_ca))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(address, files.context(own=before))
        assert (await kept.get("/hello")).status == 200, "open connections go on"
        kept.writer.transport.abort()

    served(certificates, test)


def test_a_reload_that_fails_changes_nothing(files: Files) -> None:
    certificates = Certificates(files.options(client_ca=True))

    async def test(address: tuple[str, int]) -> None:
        for path, field in ((files.cert, "cert_file"), (files.key, "cert_file"), (files.clients, "client_ca_file")):
            good = path.read_bytes()
            for bad in (b"", b"not a certificate"):
                path.write_bytes(bad)
                with pytest.raises(InvalidField) as error:
                    certificates.reload()
                assert error.value.fields["field"] == field
            path.write_bytes(good)
            assert await ask(address, files.context(own=files.clients_ca)) == 200

    served(certificates, test)


def test_files_that_are_not_there(files: Files) -> None:
    files.key.unlink()
    with pytest.raises(InvalidField, match=r"key\.pem"):
        Certificates(files.options())


def test_pipelines_parks_and_large_bodies_over_tls(files: Files) -> None:
    async def test() -> None:
        server = Serving()
        context = Certificates(files.options()).context
        server.address = await server.server.start("127.0.0.1", 0, ssl=context)
        client = Client(
            *await asyncio.open_connection(*server.address, ssl=files.context(), server_hostname="localhost")
        )
        client.send(post("/echo", b"x" * 90_000) + get("/large/3000000") + get("/park") + get("/hello"))
        assert (await client.answer()).body.endswith(b"x" * 90_000)
        assert len((await client.answer()).body) == 3_000_000
        await until(lambda: server.counters.parked)
        server.face.ready = Reply(200, b"now")
        server.hub.change()
        assert (await client.answer()).body == b"now"
        assert (await client.answer()).status == 200
        stopping = asyncio.create_task(server.server.stop(5_000))
        assert await client.rest() == b""
        client.close()
        await stopping
        assert server.counters.open == server.counters.errors == 0

    run_loop(test())


def test_plain_http_on_a_tls_port_is_just_closed(files: Files) -> None:
    async def test(address: tuple[str, int]) -> None:
        client = Client(*await asyncio.open_connection(*address))
        client.send(get("/hello"))
        await client.rest()
        client.cut()

    served(Certificates(files.options()), test)
