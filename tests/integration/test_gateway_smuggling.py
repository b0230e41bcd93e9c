"""The corpus of ``smuggling_corpus`` against a real gateway process, with instances that keep every byte."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

import smuggling_corpus as corpus
from gateway_process import GatewayProcess, Recorder, gateway, read_request, talk
from http2_client import ask
from townhall.wire.http1 import chunk

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean"
TOP = re.compile(rb"^[A-Z]+ /[^ \r\n]* HTTP/1\.1\r\n(?:[a-z0-9-]+: [^\r\n\x00]*\r\n)+\r\n", re.MULTILINE)


def honest(recorder: Recorder, peer: socket.socket) -> None:
    log, held = bytearray(), bytearray()
    recorder.received.append(log)
    while read_request(peer, log, held) is not None:
        peer.sendall(OK)


@pytest.fixture(scope="module")
def instance() -> Iterator[Recorder]:
    with Recorder(honest) as recorder:
        yield recorder


@pytest.fixture(scope="module")
def clear() -> Iterator[Recorder]:
    """For requests that are answered: what others have left half way would arrive among them, some time later."""
    with Recorder(honest) as recorder:
        yield recorder


@pytest.fixture(scope="module")
def front(instance: Recorder) -> Iterator[GatewayProcess]:
    with gateway("--route", f"/=static://127.0.0.1:{instance.port}") as process:
        yield process


@pytest.fixture(scope="module")
def clear_front(clear: Recorder) -> Iterator[GatewayProcess]:
    with gateway("--route", f"/=static://127.0.0.1:{clear.port}") as process:
        yield process


@pytest.mark.parametrize("name", corpus.REFUSED)
def test_what_is_ambiguous_reaches_nobody(name: str, front: GatewayProcess, instance: Recorder) -> None:
    instance.reset()
    answer = talk(front.address, corpus.REFUSED[name])
    assert re.match(rb"HTTP/1\.1 (400|417|501|505) ", answer), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer
    assert instance.all == b""


@pytest.mark.parametrize("name", corpus.CHUNKS)
def test_chunks_that_are_ambiguous_end_the_request(name: str, front: GatewayProcess, instance: Recorder) -> None:
    instance.reset()
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = talk(front.address, head + corpus.CHUNKS[name])
    assert re.match(rb"HTTP/1\.1 4(00|13|31) ", answer), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1
    came = instance.all
    assert b"\r\n0\r\n" not in came
    assert b"GET /smuggled" not in came


@pytest.mark.parametrize("name", corpus.HARMLESS)
def test_what_is_clear_is_framed_anew(name: str, clear_front: GatewayProcess, clear: Recorder) -> None:
    clear.reset()
    raw, count = corpus.HARMLESS[name]
    answer = talk(clear_front.address, raw)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == count, answer
    # What an instance reads as requests, one after the other, is what the gateway meant: our own Via is in each.
    held, found = bytearray(clear.all), 0
    while held:
        match = TOP.match(held)
        assert match, held
        assert b"via: 1.1 townhall-" in match[0]
        assert b"smuggled" not in match[0]
        left, right = socket.socketpair()
        with left, right:
            left.sendall(held)
            left.shutdown(socket.SHUT_WR)
            rest, log = bytearray(), bytearray()
            message = read_request(right, log, rest)
        assert message is not None
        del held[: len(message)]
        found += 1
    assert found == count


def test_what_http1_would_read_differently_is_not_passed_on() -> None:
    untouched = Recorder(honest)
    with gateway("--route", f"/=static://127.0.0.1:{untouched.port}") as front:
        for name, (rows, body) in corpus.HTTP2.items():
            answer = ask(front.address, rows, body)
            assert answer.reset == 1 or re.fullmatch("400|417|501", answer.status), (name, answer)
    assert not untouched.received
    untouched.close()


@pytest.mark.parametrize("name", corpus.HTTP2_LENGTHS)
def test_a_body_over_http2_is_as_long_as_was_said(name: str, front: GatewayProcess, instance: Recorder) -> None:
    instance.reset()
    rows, body = corpus.HTTP2_LENGTHS[name]
    answer = ask(front.address, rows, body)
    # A request that said that it is empty may have been answered as such before its first byte too many was seen.
    assert answer.reset == 1 or (name == "shorter" and answer.status == "200")
    came = instance.all
    assert b"\r\n\r\nGET /smuggled" not in came or b"content-length: 100\r\n" in came


def test_a_body_over_http2_is_framed_anew(front: GatewayProcess, instance: Recorder) -> None:
    instance.reset()
    rows = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"x"))
    assert ask(front.address, rows, corpus.SMUGGLED).body == b"clean"
    came = instance.all
    assert came.startswith(b"POST /a HTTP/1.1\r\n")
    assert came.endswith(b"\r\n\r\n" + chunk(corpus.SMUGGLED) + b"0\r\n\r\n")


class Hostile(Recorder):
    """Says ``answer`` to every request for ``/first``, and is honest otherwise."""

    def __init__(self) -> None:
        self.answer = b""
        super().__init__(Hostile.lie)

    @staticmethod
    def lie(recorder: Recorder, peer: socket.socket) -> None:
        assert isinstance(recorder, Hostile)
        log, held = bytearray(), bytearray()
        while (message := read_request(peer, log, held)) is not None:
            peer.sendall(recorder.answer if b"/first" in message else OK)


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    with Hostile() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def betrayed(hostile: Hostile) -> Iterator[GatewayProcess]:
    with gateway("--route", f"/=static://127.0.0.1:{hostile.port}") as process:
        yield process


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("name", corpus.ANSWERS)
def test_an_answer_reaches_only_who_asked(name: str, method: str, betrayed: GatewayProcess, hostile: Hostile) -> None:
    hostile.answer = corpus.ANSWERS[name]
    last = "Host: x\r\nConnection: close\r\n\r\n"
    first = talk(betrayed.address, f"{method} /first HTTP/1.1\r\n{last}".encode())
    # The next one waits on the same connection, the one after that comes on another.
    both = talk(betrayed.address, f"{method} /first HTTP/1.1\r\nHost: x\r\n\r\nGET /then HTTP/1.1\r\n{last}".encode())
    other = talk(betrayed.address, f"GET /other HTTP/1.1\r\n{last}".encode())
    assert other.endswith(b"clean"), other
    assert other.count(b"HTTP/1.1 ") == 1
    for answer in (first, both):
        # Whatever the instance said within its one answer may be there, and nothing of what came behind it.
        assert b"poison" not in answer, answer
    if both.count(b"HTTP/1.1 ") > both.count(b"HTTP/1.1 103"):
        assert both.count(b"HTTP/1.1 ") - both.count(b"HTTP/1.1 103") <= 2
