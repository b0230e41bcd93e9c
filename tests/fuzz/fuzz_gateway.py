"""Feeds coverage-guided bytes to what the gateway reads: ``python fuzz_gateway.py -runs=10000``.

The first byte chooses the reader, the second where the rest is cut. Whatever comes, the readers raise their one kind of
error or nothing, give the same however the bytes are cut, and never give a head that another parser could read
differently: what we make of it for the other side is one well-formed head, and our own reader finds the same in it.

- an instance's answer (``PeerMisbehaved``), for three methods
- a client's requests (``Misuse``)
- WebSocket frames (nothing)
- a request's fields over HTTP/2, a line each (``Misuse``)
- what an instance says over HTTP/2 (nothing: the connection or the stream ends)
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["townhall.gateway", "townhall.wire"]):
    from townhall.gateway.answers import UNTIL_CLOSE, AnswerReader, body_length_of
    from townhall.gateway.frames import FrameEnds
    from townhall.gateway.http2_heads import VARYING, Http2Heads, answer_of
    from townhall.gateway.options import GatewayOptions
    from townhall.gateway.rendering import Asker, answer_head, field_block
    from townhall.gateway.requests import RequestHead, RequestHeads
    from townhall.model.errors import Misuse, PeerMisbehaved
    from townhall.wire.http1_reader import RequestReader
    from townhall.wire.http2 import ErrorCode, Http2Limits
    from townhall.wire.http2.frames import (
        DATA,
        END_STREAM,
        PING,
        block,
        frame,
        goaway,
        headers,
        reset,
        settings,
        window_update,
    )
    from townhall.wire.http2.heads import head_of_fields
    from townhall.wire.http2.requester import Requested, Requester

OPTIONS = GatewayOptions(header_size_max=2_000, target_size_max=500)
METHODS = (b"GET", b"HEAD", b"POST")
REQUESTS, FRAMES, FIELDS_OF_HTTP2, FRAMES_OF_HTTP2 = range(len(METHODS), len(METHODS) + 4)
KINDS = FRAMES_OF_HTTP2 + 1
FIELDS = rb"(?:[!#$%&'*+\-.^_`|~0-9a-z]+: [^\r\n\x00]*\r\n)*\r\n"
ANSWER = re.compile(rb"HTTP/1\.1 [1-5][0-9]{2} [^\r\n\x00]*\r\n" + FIELDS)
BLOCK = re.compile(FIELDS)
ASKERS = tuple(
    Asker(b"127.0.0.1", b"http", trusted=trusted, forwarded=not trusted, name=b"th") for trusted in (False, True)
)
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: v\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: close, x\r\nX: y\r\n\r\nuntil the end",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nVia: 1.0 a\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x00",
]
ASKED = [
    b"GET /a/b?c=d HTTP/1.1\r\nHost: x:80\r\nAccept: */*\r\n\r\nGET / HTTP/1.1\r\nHost: y\r\n\r\n",
    b"POST http://x/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: te\r\n\r\n"
    b"2\r\nab\r\n0\r\nT: v\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\nMax-Forwards: 3\r\nVia: 1.1 a\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nX-Forwarded-For: 127.0.0.9\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive, x\r\nX: y\r\nForwarded: for=z\r\n\r\n",
]
SOCKET = [b"\x81\x85abcdhello\x88\x02\x03\xe8", b"\x82\x7e\x01\x00" + bytes(256) + b"\x89\x00", b"\x82\x7f" + bytes(8)]
HTTP2_FIELDS = [
    b":method: GET\n:scheme: http\n:path: /a?b\n:authority: x\ncookie: a\ncookie: b\nte: trailers",
    b":method: POST\n:scheme: http\n:path: /s.S/M\n:authority: x\ncontent-type: application/grpc\ngrpc-timeout: 1S",
    b":method: PUT\n:scheme: https\n:path: /\nhost: x\ncontent-length: 5\nexpect: 100-continue\nvia: 2 a",
]
_OK = block([(b":status", b"200"), (b"content-length", b"3")], ends=False)
HTTP2_FRAMES = [
    settings({3: 5, 4: 100}) + headers(_OK, 1) + frame(DATA, END_STREAM, 1, b"abc"),
    headers(block([(b":status", b"103")], ends=False), 1)
    + headers(block([(b":status", b"200")], ends=False), 1)
    + frame(DATA, 0, 1, b"abc")
    + headers(block([(b"grpc-status", b"0")], ends=True), 1),
    frame(PING, 0, 0, bytes(8))
    + window_update(0, 5)
    + window_update(3, 5)
    + reset(1, ErrorCode.REFUSED_STREAM)
    + goaway(1, ErrorCode.NO_ERROR),
]
SEEDS = [
    *(bytes([kind, 3]) + seed for kind in range(len(METHODS)) for seed in ANSWERS),
    *(bytes([REQUESTS, 3]) + seed for seed in ASKED),
    *(bytes([FRAMES, 3]) + seed for seed in SOCKET),
    *(bytes([FIELDS_OF_HTTP2, 3]) + seed for seed in HTTP2_FIELDS),
    *(bytes([FRAMES_OF_HTTP2, 3]) + seed for seed in HTTP2_FRAMES),
]
WORDS = (
    "HTTP/1.1 ", "HTTP/1.0 ", " HTTP/1.1\\x0d\\x0a", "GET /", "POST /", "OPTIONS ", "\\x0d\\x0a", "\\x0d\\x0a\\x0d\\x0a",
    "Host: x", "Content-Length: ", "Transfer-Encoding: chunked", "Connection: ", "close", "keep-alive", "Upgrade: websocket",
    "TE: trailers", "Via: ", "Expect: 100-continue", "X-Forwarded-For: ", "Forwarded: ", "Max-Forwards: ", "100 ", "200 ",
    "204 ", "304 ", "0\\x0d\\x0a",
)  # fmt: skip
Found = tuple[list[bytes], bytes, bytes, bool]


def read_answer(pieces: list[bytes], method: bytes) -> Found:
    """Heads as the client gets them, the body, the trailers, and whether it ended well."""
    reader = AnswerReader(OPTIONS)
    reader.expect(method)
    heads: list[bytes] = []
    body, final = b"", False
    try:
        for piece in pieces:
            reader.feed(piece)
            while not final:
                head = reader.head()
                if head is None:
                    break
                final = head.status >= 200 or head.status == 101
                length = body_length_of(head, method) if head.status >= 200 else 0
                rendered = answer_head(head, length, name=b"th", old=False, close=False)
                assert ANSWER.fullmatch(rendered), f"a head that is not well formed: {rendered!r}"
                heads.append(rendered)
                if head.status == 101:
                    return heads, b"", b"", True
                check_answer(rendered, method, head.status, length)
            while final and not reader.ended:
                part = reader.part()
                if not part:
                    break
                body += part
    except PeerMisbehaved:
        return heads, body, b"", False
    return heads, body, reader.trailers if reader.ended else b"", final and reader.closed()


def check_answer(rendered: bytes, method: bytes, status: int, length: int) -> None:
    """What we send on is read as what we meant."""
    again = AnswerReader(OPTIONS_WIDE)
    again.expect(method)
    again.feed(rendered)
    head = again.head()
    assert head is not None, f"half a head: {rendered!r}"
    assert head.status == status, f"another status: {rendered!r}"
    if status >= 200:
        meant = -1 if length == UNTIL_CLOSE else length
        assert body_length_of(head, method) == meant, f"another length: {rendered!r}"


def read_requests(pieces: list[bytes]) -> Found:
    """Heads as an instance gets them, all bodies, the last trailers, and whether everything was understood."""
    reader, heads = RequestReader(OPTIONS), RequestHeads(target_size_max=OPTIONS.target_size_max)
    found: list[bytes] = []
    bodies = b""
    try:
        for piece in pieces:
            reader.feed(piece)
            while True:
                if reader.ended:
                    raw = reader.head()
                    if raw is None:
                        break
                    found.append(passed_on(heads, raw))
                    reader.begin_body(heads.read(raw).fields.length, size_max=1_000)
                else:
                    part = reader.part()
                    bodies += part
                    if not part and not reader.ended:
                        break
    except Misuse as error:
        if not 400 <= error.fields["http_status"] < 600:
            raise AssertionError("a refusal with a status that is none") from error
        return found, bodies, b"", False
    return found, bodies, reader.trailers if reader.ended else b"", reader.ended and not reader.size


def passed_on(heads: RequestHeads, raw: bytes) -> bytes:
    """One head as an instance gets it; our own reader finds the same in it."""
    return rendered_for_instances(heads.read(raw))


def rendered_for_instances(head: RequestHead) -> bytes:
    """The same for a head that has been read."""
    block = b""
    for asker in ASKERS:
        block = field_block(head.fields, asker, authority=head.fields.authority or b"i:1", expects=False)
        assert BLOCK.fullmatch(block), f"fields that are not well formed: {block!r}"
        sent = b"%b %b HTTP/1.1\r\n%b" % (head.method, head.target, block)
        again = RequestHeads(target_size_max=OPTIONS.target_size_max, count_max=1_000).read(sent)
        assert again.fields.length == head.fields.length, f"another length: {sent!r}"
        assert (again.method, again.target) == (head.method, head.target), f"another request: {sent!r}"
        assert again.fields.upgrade == head.fields.upgrade, f"another protocol: {sent!r}"
    return block


def read_frames(pieces: list[bytes]) -> Found:
    """Where WebSocket frames end."""
    ends = FrameEnds()
    for piece in pieces:
        at = ends.feed(piece)
        assert at is None or 0 < at <= len(piece)
    return [], b"%d" % ends.closed, b"%d" % ends.between, True


def read_fields(raw: bytes) -> Found:
    """A head over HTTP/2 as an instance of HTTP/1.1 gets it."""
    rows = []
    for line in raw.split(b"\n"):
        name, _, value = line.removeprefix(b":").partition(b": ")
        rows.append((line[:1] + name if line.startswith(b":") else name, value))
    varying = b""
    if rows[-1][0] == VARYING:
        varying = rows.pop()[1]
    head = head_of_fields(rows)
    if head.fault:
        return [], b"", b"", False
    try:
        found = [
            Http2Heads(RequestHeads(target_size_max=500), header_size_max=2_000).read(head, varying, ended=ended)
            for ended in (True, False)
        ]
    except Misuse:
        return [], b"", b"", False
    return [rendered_for_instances(one) for one in found], b"", b"", True


class Sink:
    """Writes down what an instance answers on two streams, as a client over HTTP/1.1 gets it."""

    def __init__(self) -> None:
        self.said: dict[int, list[object]] = {1: [], 3: []}

    def answered(self, stream: Requested, status: int, fields: list[tuple[bytes, bytes]], *, ended: bool) -> None:
        head = answer_of(status, fields, ended=ended)
        length = body_length_of(head, b"GET") if status >= 200 else 0
        rendered = answer_head(head, length, name=b"th", old=False, close=False)
        assert ANSWER.fullmatch(rendered), f"a head that is not well formed: {rendered!r}"
        check_answer(rendered, b"GET", status, length)
        self.said[stream.id] += [rendered, ended]

    def data(self, stream: Requested, data: bytes, *, ended: bool) -> None:
        self.said[stream.id] += [data, ended]

    def trailers(self, stream: Requested, fields: list[tuple[bytes, bytes]]) -> None:
        self.said[stream.id].append(fields)

    def lost(self, stream: Requested, why: str, *, unprocessed: bool) -> None:
        self.said[stream.id] += ["lost", unprocessed]

    def writable(self, stream: object) -> None:
        """Nothing waits."""


def read_http2(pieces: list[bytes]) -> Found:
    """What came of two requests."""
    sink = Sink()
    wire = Requester(Http2Limits(), sink, 1_000)
    for _ in range(2):
        wire.outbox.begin(wire.open(), block([(b":method", b"GET")], ends=True))
    for piece in pieces:
        wire.receive(piece)
    return [], repr(sink.said).encode(), b"%d %d" % (wire.over, wire.leaving), True


def test_one(data: bytes) -> None:
    """One input."""
    if len(data) < 2:
        return
    kind, cut, raw = data[0] % KINDS, data[1], data[2:]
    step = cut % 7 + 1
    whole, pieces = [raw] if raw else [], [raw[start : start + step] for start in range(0, len(raw), step)]
    if kind < len(METHODS):
        one, other = read_answer(whole, METHODS[kind]), read_answer(pieces, METHODS[kind])
    elif kind == REQUESTS:
        one, other = read_requests(whole), read_requests(pieces)
    elif kind == FRAMES:
        one, other = read_frames(whole), read_frames(pieces)
    elif kind == FIELDS_OF_HTTP2:
        one = other = read_fields(raw)
    else:
        one, other = read_http2(whole), read_http2(pieces)
    if one[3] or other[3]:
        assert one == other, f"read differently when it is cut: {one!r} and {other!r}"


OPTIONS_WIDE = GatewayOptions()


def main() -> None:
    """Run the seeds, then whatever atheris makes of them."""
    for seed in SEEDS:
        test_one(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        for index, seed in enumerate(SEEDS):
            (folder / "corpus" / f"seed{index}").write_bytes(seed)
        (folder / "words").write_text("".join(f'"{word}"\n' for word in WORDS))
        atheris.Setup([*sys.argv, f"-dict={folder / 'words'}", str(folder / "corpus")], test_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
