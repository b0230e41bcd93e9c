"""HTTP/2 over TLS to instances: gRPC through the gateway, and what does not agree on HTTP/2 or is not trusted."""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
import trustme

from gateway_process import GatewayProcess, gateway
from townhall_process import DEADLINE_S


@dataclass(frozen=True)
class Authority:
    """Who is trusted, and a certificate of its for ``instance.test``."""

    ca: trustme.CA
    leaf: trustme.LeafCert
    file: Path

    def context(self, *protocols: str) -> ssl.SSLContext:
        found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.leaf.configure_cert(found)
        if protocols:
            found.set_alpn_protocols(protocols)
        return found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca = trustme.CA()
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    ca.cert_pem.write_to_path(file)
    return Authority(ca, ca.issue_cert("instance.test"), file)


def echo(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    assert context.auth_context()["transport_security_type"] == [b"ssl"]
    for one in requests:
        yield one.upper()


@pytest.fixture(scope="module")
def port(authority: Authority) -> Iterator[int]:
    """A gRPC server with TLS; it agrees on nothing but h2."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    methods = {
        "Both": grpc.stream_stream_rpc_method_handler(echo),
        "Unary": grpc.unary_unary_rpc_method_handler(lambda request, context: next(echo(iter([request]), context))),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
    chain = b"".join(one.bytes() for one in authority.leaf.cert_chain_pems)
    found = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(authority.leaf.private_key_pem.bytes(), chain)])
    )
    server.start()
    yield found
    server.stop(None).wait()


def route(port: int, directory: Path, authority: Authority, **more: str) -> tuple[str, str]:
    """The options of a gateway with one route to this port, over TLS."""
    keys = {"protocol": "h2", "tls_ca": str(authority.file), "tls_name": "instance.test", "retries": 0, **more}
    lines = [f"{name} = {value!r}" for name, value in keys.items()]
    file = directory / "gateway.toml"
    file.write_text("\n".join(["[[route]]", f"service = 'static://127.0.0.1:{port}'", "tls = true", *lines]))
    return "--config", str(file)


def test_grpc_to_instances_with_tls(port: int, authority: Authority, tmp_path: Path) -> None:
    with (
        gateway(*route(port, tmp_path, authority)) as front,
        grpc.insecure_channel(front.listen["http"]) as channel,
    ):
        unary = channel.unary_unary("/test.Echo/Unary")
        assert [unary(b"%d" % number + b"a", timeout=DEADLINE_S) for number in range(5)] == [
            b"%dA" % number for number in range(5)
        ]
        both = channel.stream_stream("/test.Echo/Both")
        assert list(both(iter([b"a", b"b" * 100_000]), timeout=DEADLINE_S)) == [b"A", b"B" * 100_000]


def refusal(front: GatewayProcess) -> str:
    """What a client is told by the gateway itself."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(front.url, timeout=DEADLINE_S)
    with caught.value as answer:
        assert answer.code == 502
        return answer.read().decode()


def test_an_instance_with_another_name_or_from_another_authority_is_not_called(
    port: int, authority: Authority, tmp_path: Path
) -> None:
    with gateway(*route(port, tmp_path, authority, tls_name="other.test")) as front:
        told = refusal(front)
        assert "connect_failed" in told
        assert "other.test" in told
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    with gateway(*route(port, tmp_path, authority, tls_ca=str(stranger))) as front:
        assert "certificate verify failed" in refusal(front)


class Silent(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.mark.parametrize("protocols", [(), ("http/1.1",)])
def test_an_instance_that_does_not_agree_on_http2_is_not_called(
    protocols: tuple[str, ...], authority: Authority, tmp_path: Path
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = authority.context(*protocols).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with gateway(*route(server.server_address[1], tmp_path, authority)) as front:
            told = refusal(front)
            assert "connect_failed" in told
            assert "HTTP/2" in told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
