"""Feeds coverage-guided bytes to what the gateway reads: ``python fuzz_gateway.py -runs=10000``.

The first byte chooses the reader, the second where the rest is cut. Whatever comes, the readers raise their one kind of
error or nothing, give the same however the bytes are cut, and never give a head that another parser could read
differently: what we make of it for the other side is one well-formed head, and our own reader finds the same in it.

- an instance's answer (``PeerMisbehaved``), for three methods
- a client's requests (``Misuse``)
- WebSocket frames (nothing)
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
    from townhall.gateway.options import GatewayOptions
    from townhall.gateway.rendering import Asker, answer_head, field_block
    from townhall.gateway.requests import RequestHeads
    from townhall.model.errors import Misuse, PeerMisbehaved
    from townhall.wire.http1_reader import RequestReader

OPTIONS = GatewayOptions(header_size_max=2_000, target_size_max=500)
METHODS = (b"GET", b"HEAD", b"POST")
REQUESTS, FRAMES = len(METHODS), len(METHODS) + 1
KINDS = FRAMES + 1
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
SEEDS = [
    *(bytes([kind, 3]) + seed for kind in range(len(METHODS)) for seed in ANSWERS),
    *(bytes([REQUESTS, 3]) + seed for seed in ASKED),
    *(bytes([FRAMES, 3]) + seed for seed in SOCKET),
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
    head = heads.read(raw)
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
    else:
        one, other = read_frames(whole), read_frames(pieces)
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
