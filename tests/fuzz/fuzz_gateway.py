"""Feeds coverage-guided bytes to the reader of instances' answers: ``python fuzz_gateway.py -runs=10000``.

Whatever an instance says, the reader raises ``PeerMisbehaved`` or nothing, gives the same heads and bodies however the
bytes are cut, and never gives a head that another parser could read differently: what we make of it for the client is
one well-formed head.
"""

from __future__ import annotations

import re
import sys

import atheris

with atheris.instrument_imports(include=["townhall.gateway", "townhall.wire"]):
    from townhall.gateway.answers import AnswerReader, body_length_of
    from townhall.gateway.options import GatewayOptions
    from townhall.gateway.rendering import answer_head
    from townhall.model.errors import PeerMisbehaved

OPTIONS = GatewayOptions(header_size_max=2_000)
METHODS = (b"GET", b"HEAD", b"POST")
HEAD = re.compile(rb"HTTP/1\.1 [1-5][0-9]{2} [^\r\n\x00]*\r\n(?:[!#$%&'*+\-.^_`|~0-9a-z]+: [^\r\n\x00]*\r\n)*\r\n")
SEEDS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: v\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: close, x\r\nX: y\r\n\r\nuntil the end",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x00",
]


def read(pieces: list[bytes], method: bytes) -> tuple[list[bytes], bytes, bytes, bool]:
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
                assert HEAD.fullmatch(rendered), f"a head that is not well formed: {rendered!r}"
                heads.append(rendered)
                if head.status == 101:
                    return heads, b"", b"", True
            while final and not reader.ended:
                part = reader.part()
                if not part:
                    break
                body += part
    except PeerMisbehaved:
        return heads, body, b"", False
    return heads, body, reader.trailers if reader.ended else b"", final and reader.closed()


def test_one(data: bytes) -> None:
    """One input: the first byte chooses the method, the second where it is cut."""
    if len(data) < 2:
        return
    method, cut, raw = METHODS[data[0] % 3], data[1], data[2:]
    whole = read([raw], method)
    step = cut % 7 + 1
    pieces = read([raw[start : start + step] for start in range(0, len(raw), step)], method)
    if whole[3] or pieces[3]:
        assert whole == pieces, f"read differently when it is cut: {whole!r} and {pieces!r}"


def main() -> None:
    """Run the seeds, then whatever atheris thinks of."""
    for seed in SEEDS:
        for first in range(3):
            test_one(bytes([first, 2]) + seed)
    atheris.Setup(sys.argv, test_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
