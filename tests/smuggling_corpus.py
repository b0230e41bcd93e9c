"""Requests and answers that two parsers could read differently: what a proxy must not pass on. Data only.

Written for this project after the classes that these describe:

- RFC 9112 §2.2, §3.2, §5, §6, §7.1, §11.1 (response splitting) and §11.2 (request smuggling); RFC 9110 §5.5, §7.6, §7.8.
- C. Linhart, A. Klein, R. Heled, S. Orrin: HTTP Request Smuggling (Watchfire, 2005): CL.CL, CL.TE, bare line ends.
- J. Kettle: HTTP Desync Attacks (2019), Browser-Powered Desync Attacks (2022), HTTP/1.1 must die (2025): TE.TE by
  obfuscation, CL.0, 0.CL, Expect-based desync.
- A. Klein: HTTP Request Smuggling in 2020: odd Content-Length, header names with odd characters.
- B. Jabiyev, S. Sprecher, K. Onarlioglu, E. Kirda: T-Reqs (2021): mutated request lines and bodies.
- M. Grenfeldt, A. Olofsson et al.: Attacking Websites: Detecting and Preventing HTTP Request Smuggling (2021), and
  "TERM.EXT", "EXT.TERM", "TERM.SPILL" and "SPILL.TERM" chunk parsing differences (J. Wallberg 2025).
- J. Kettle: HTTP/2: The Sequel is Always Worse (2021): H2.CL, H2.TE, CRLF in names, values and pseudo fields, two paths,
  two hosts; RFC 9113 §8.2.1, §8.3.1 and §10.3.
- M. Dienst, 0ang3el: WebSocket smuggling (2019); J. Bierman, J. Miller: h2c smuggling (2020).
- N. Davison: Abusing hop-by-hop headers (2019).
- CWE-113 and CWE-444.

``{s}`` stands for a request that must never reach an instance as one.
"""

from __future__ import annotations

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
_P = b"POST /a HTTP/1.1\r\nHost: x\r\n"
_G = b"GET /a HTTP/1.1\r\nHost: x\r\n"


def _p(*fields: bytes, body: bytes = b"") -> bytes:
    return _P + b"".join([one + b"\r\n" for one in fields]) + b"\r\n" + body


REFUSED: dict[str, bytes] = {
    # Two lengths.
    "CL.TE": _p(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE.CL": _p(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"5c\r\n" + SMUGGLED + b"0\r\n\r\n"),
    "CL.CL, different": _p(b"Content-Length: 0", b"Content-Length: 40", body=SMUGGLED),
    "CL.CL, the same": _p(b"Content-Length: 5", b"Content-Length: 5", body=b"hello" + SMUGGLED),
    "CL as a list": _p(b"Content-Length: 5, 5", body=b"hello" + SMUGGLED),
    "CL as a list, different": _p(b"Content-Length: 0, 40", body=SMUGGLED),
    # One length that is none.
    "CL with a sign": _p(b"Content-Length: +5", body=b"hello" + SMUGGLED),
    "CL negative": _p(b"Content-Length: -1", body=SMUGGLED),
    "CL hexadecimal": _p(b"Content-Length: 0x5", body=b"hello" + SMUGGLED),
    "CL with an underscore": _p(b"Content-Length: 1_0", body=b"hello" + SMUGGLED),
    "CL with a space in it": _p(b"Content-Length: 1 0", body=b"hello" + SMUGGLED),
    "CL with a comma at its end": _p(b"Content-Length: 5,", body=b"hello" + SMUGGLED),
    "CL with a point": _p(b"Content-Length: 5.0", body=b"hello" + SMUGGLED),
    "CL empty": _p(b"Content-Length:", body=SMUGGLED),
    "CL in Arabic digits": _p("Content-Length: \u0665".encode(), body=b"hello" + SMUGGLED),
    "CL beyond 64 bits": _p(b"Content-Length: 18446744073709551621", body=b"hello" + SMUGGLED),
    "CL in quotes": _p(b'Content-Length: "5"', body=b"hello" + SMUGGLED),
    "CL with a vertical tab": _p(b"Content-Length: \x0b5", body=b"hello" + SMUGGLED),
    # Transfer-Encoding in disguise.
    "TE unknown": _p(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE identity": _p(b"Transfer-Encoding: identity", body=SMUGGLED),
    "TE gzip, chunked": _p(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE chunked, identity": _p(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n" + SMUGGLED),
    "TE chunked twice": _p(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE twice": _p(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE twice, one unknown": _p(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", body=b"0\r\n\r\n" + SMUGGLED),
    "TE with a space before the colon": _p(
        b"Transfer-Encoding : chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "TE with a tab before the colon": _p(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE with a vertical tab": _p(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE with a form feed": _p(b"Transfer-Encoding: chunked\x0c", body=b"0\r\n\r\n" + SMUGGLED),
    "TE with a NUL": _p(b"Transfer-Encoding: chunked\x00", body=b"0\r\n\r\n" + SMUGGLED),
    "TE with a CR": _p(b"Transfer-Encoding: chunked\r", body=b"0\r\n\r\n" + SMUGGLED),
    "TE with a CR before": _p(b"Transfer-Encoding:\rchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE behind a bare LF": _p(b"X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE behind a bare CR": _p(b"X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE folded": _p(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE folded into another field": _p(b"X: y\r\n Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "TE in quotes": _p(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n" + SMUGGLED),
    "TE with a parameter": _p(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n" + SMUGGLED),
    "TE with an underscore": _p(b"Transfer_Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED),
    "TE empty": _p(b"Transfer-Encoding:", b"Content-Length: 5", body=b"hello" + SMUGGLED),
    "TE in Latin-1": _p(b"Transfer-Encoding: chunked\xa0", body=b"0\r\n\r\n" + SMUGGLED),
    "TE in HTTP/1.0": b"POST /a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    # The head's own framing.
    "bare LF everywhere": b"POST /a HTTP/1.1\nHost: x\nContent-Length: 0\n\n" + SMUGGLED,
    "bare LF in the request line": b"GET /a HTTP/1.1\nHost: x\r\n\r\n" + SMUGGLED,
    "bare LF at the head's end": _G + b"\n" + SMUGGLED,
    "bare CR as a line end": b"GET /a HTTP/1.1\rHost: x\r\rGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "obs-fold": _p(b"X: y\r\n folded", body=SMUGGLED),
    "obs-fold in the first field": b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n" + SMUGGLED,
    "whitespace before the first field": b"GET /a HTTP/1.1\r\n\tX: y\r\nHost: x\r\n\r\n" + SMUGGLED,
    "space before a colon": _p(b"X : y", body=SMUGGLED),
    "no colon": _p(b"nonsense", body=SMUGGLED),
    "an empty name": _p(b": y", body=SMUGGLED),
    "NUL in a value": _p(b"X: y\x00z", body=SMUGGLED),
    "NUL in a name": _p(b"X\x00: y", body=SMUGGLED),
    "CR in a value": _p(b"X: y\rz", body=SMUGGLED),
    "DEL in a value": _p(b"X: y\x7fz", body=SMUGGLED),
    "escape in a value": _p(b"X: \x1b[0m", body=SMUGGLED),
    "parentheses in a name": _p(b"Content(Length): 5", body=SMUGGLED),
    "high bytes in a name": _p(b"Content-L\xc3\xa9ngth: 5", body=SMUGGLED),
    "quotes in a name": _p(b'"Content-Length": 5', body=SMUGGLED),
    "slash in a name": _p(b"Content/Length: 5", body=SMUGGLED),
    "space in a name": _p(b"Content Length: 5", body=SMUGGLED),
    "Content_Length": _p(b"Content_Length: 5", body=SMUGGLED),
    # The request line.
    "HTTP/0.9": b"GET /a\r\n\r\n" + SMUGGLED,
    "HTTP/0.9 with a word": b"GET /a HTTP\r\nHost: x\r\n\r\n" + SMUGGLED,
    "HTTP/2.0": b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n" + SMUGGLED,
    "HTTP/1.2": b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n" + SMUGGLED,
    "HTTP/1.10": b"GET /a HTTP/1.10\r\nHost: x\r\n\r\n" + SMUGGLED,
    "http/1.1": b"GET /a http/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "two spaces": b"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "a tab": b"GET\t/a\tHTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "a space at the end": b"GET /a HTTP/1.1 \r\nHost: x\r\n\r\n" + SMUGGLED,
    "a space in the target": b"GET /a /b HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "a request in the target": b"GET /a HTTP/1.1 GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "high bytes in the target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "NUL in the target": b"GET /a\x00 HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "CR in the target": b"GET /a\rb HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "a colon in the method": b"GET: /a HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "a target without slash": b"GET a HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "an asterisk for GET": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n" + SMUGGLED,
    "TRACE": b"TRACE /a HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "dot segments": b"GET /a/../smuggled HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "encoded dot segments": b"GET /a/%2e%2e/smuggled HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "two empty lines before": b"\r\n\r\n" + _G + b"\r\n",
    "an LF before": b"\n" + _G + b"\r\n",
    # Which host is meant.
    "no Host": b"GET /a HTTP/1.1\r\n\r\n" + SMUGGLED,
    "two Hosts": b"GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + SMUGGLED,
    "two Hosts, the same": b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n" + SMUGGLED,
    "absolute target and another Host": b"GET http://y/a HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "absolute target with a user": b"GET http://x@y/a HTTP/1.1\r\nHost: y\r\n\r\n" + SMUGGLED,
    "absolute target of another scheme": b"GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "a path in Host": b"GET /a HTTP/1.1\r\nHost: x/y\r\n\r\n" + SMUGGLED,
    "a user in Host": b"GET /a HTTP/1.1\r\nHost: x@y\r\n\r\n" + SMUGGLED,
    "a space in Host": b"GET /a HTTP/1.1\r\nHost: x y\r\n\r\n" + SMUGGLED,
    "a list in Host, with a space": b"GET /a HTTP/1.1\r\nHost: x, y\r\n\r\n" + SMUGGLED,
    # Fields that must not end here.
    "Connection names Host": _p(b"Connection: Host", body=SMUGGLED),
    "Connection names Content-Length": _p(b"Connection: close, Content-Length", b"Content-Length: 5", body=b"hello"),
    "Connection names Transfer-Encoding": _p(
        b"Connection: Transfer-Encoding", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "X_Forwarded_For": _p(b"X_Forwarded_For: 192.0.2.1", body=SMUGGLED),
    # Expectations and upgrades.
    "Expect unknown": _p(b"Expect: 200-maybe", b"Content-Length: 5", body=b"hello" + SMUGGLED),
    "Expect with a parameter": _p(b"Expect: y 100-continue", b"Content-Length: 5", body=b"hello" + SMUGGLED),
    "WebSocket with a body": _G + b"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 36\r\n\r\n" + SMUGGLED,
    "WebSocket by POST": _p(b"Upgrade: websocket", b"Connection: Upgrade", body=SMUGGLED),
}
"""Refused, with nothing at all at the instance, and the connection ends."""

CHUNKS: dict[str, bytes] = {
    "negative": b"-1\r\n" + SMUGGLED,
    "with a sign": b"+5\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "with 0x": b"0x5\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "with an underscore": b"1_0\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "with a space before": b" 5\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "with a space after": b"5 \r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "beyond 32 bits": b"100000005\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "beyond 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "empty": b"\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "no number": b"x\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "size ends with LF": b"5\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "size ends with CR": b"5\rhello\r\n0\r\n\r\n" + SMUGGLED,
    "data ends with LF": b"5\r\nhello\n0\r\n\r\n" + SMUGGLED,
    "data ends with CR": b"5\r\nhello\r0\r\n\r\n" + SMUGGLED,
    "data without end": b"5\r\nhello0\r\n\r\n" + SMUGGLED,
    "data longer than its size": b"5\r\nhello!!\r\n0\r\n\r\n" + SMUGGLED,
    "bare LF in an extension (TERM.EXT)": b"5;a\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "NUL in an extension": b"5;\x00\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "a long extension": b"5;" + b"a" * 4_096 + b"\r\nhello\r\n0\r\n\r\n" + SMUGGLED,
    "the last chunk ends with LF": b"0\n\n" + SMUGGLED,
    "two bytes too many (TERM.SPILL)": b"5\r\nhelloXX0\r\n\r\n" + SMUGGLED,
    "a trailer with a space before the colon": b"0\r\nX : y\r\n\r\n" + SMUGGLED,
    "a folded trailer": b"0\r\nX: y\r\n z\r\n\r\n" + SMUGGLED,
    "a trailer with LF": b"0\r\nX: y\n\r\n" + SMUGGLED,
    "endless trailers": b"0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n" + SMUGGLED,
}
"""Bodies after ``Transfer-Encoding: chunked``: refused, and the instance never sees the end of the request."""

HARMLESS: dict[str, tuple[bytes, int]] = {
    "chunk extensions end here": (_p(b"Transfer-Encoding: chunked", body=b"5;a=b;c\r\nhello\r\n0;x\r\n\r\n"), 1),
    "leading zeros": (_p(b"Content-Length: 005", body=b"hello"), 1),
    "chunk sizes with zeros": (_p(b"Transfer-Encoding: chunked", body=b"00005\r\nhello\r\n000\r\n\r\n"), 1),
    "TE in capitals": (_p(b"TRANSFER-ENCODING: CHUNKED", body=b"5\r\nhello\r\n0\r\n\r\n"), 1),
    "GET with a body": (_G + b"Content-Length: 35\r\n\r\n" + SMUGGLED, 1),
    "CL.0": (_p(b"Content-Length: 35", body=SMUGGLED), 1),
    "a request in chunks": (_p(b"Transfer-Encoding: chunked", body=b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"), 1),
    "h2c is not offered": (
        _G + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n\r\n",
        1,
    ),
    "Upgrade without Connection": (_G + b"Upgrade: websocket\r\n\r\n", 1),
    "a handshake that the instance refuses": (
        _G + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 1337\r\n\r\n",
        1,
    ),
    "pipelined": (_G + b"\r\n" + _G + b"\r\n", 2),
    "an empty line before": (b"\r\n" + _G + b"\r\n", 1),
    "absolute target": (b"GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n", 1),
    "hop-by-hop fields": (_p(b"Connection: X-Secret, close", b"X-Secret: 1", b"Keep-Alive: 3", b"TE: trailers"), 1),
    "trailers that would mislead": (
        _p(
            b"Transfer-Encoding: chunked",
            body=b"0\r\nContent-Length: 5\r\nX-Forwarded-For: smuggled\r\nx_real_ip: smuggled\r\n\r\n",
        ),
        1,
    ),
    "trailers": (_p(b"Transfer-Encoding: chunked", body=b"0\r\nX-T: v\r\n\r\n"), 1),
    "field without value": (_p(b"X:"), 1),
    "high bytes in a value": (_p(b"X: \xff\xfe"), 1),
}
"""Passed on, framed anew: so many requests reach the instance, none of them ``SMUGGLED``."""

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

ANSWERS: dict[str, bytes] = {
    "two answers": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + _OK,
    "CL.TE": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _OK,
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 60\r\n\r\n" + _OK,
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 0, 60\r\n\r\n" + _OK,
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +0\r\n\r\n" + _OK,
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n" + _OK,
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + _OK,
    "a coding in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + _OK,
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok" + _OK,
    "obs-fold": b"HTTP/1.1 200 OK\r\nX: y\r\n Content-Length: 2\r\n\r\nok" + _OK,
    "CR in a value": b"HTTP/1.1 200 OK\r\nX: y\rSet-Cookie: poison\r\nContent-Length: 2\r\n\r\nok",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX: y\x00\r\nContent-Length: 2\r\n\r\nok",
    "a space before a colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok" + _OK,
    "no status line": b"poison\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok" + _OK,
    "a status below 100": b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok" + _OK,
    "HTTP/2": b"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok" + _OK,
    "bytes before the status": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + _OK,
    "a body after 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n" + _OK,
    "a body after 304": b"HTTP/1.1 304 Not Modified\r\n\r\n" + _OK,
    "a 101 that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    + _OK,
    "a chunk that is longer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok!!\r\n0\r\n\r\n" + _OK,
    "a chunk beyond 32 bits": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000002\r\nok\r\n0\r\n\r\n"
    + _OK,
    "an answer behind chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + _OK,
    "endless interim answers": b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" * 2_000 + _OK,
    "endless fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n" + _OK,
}
"""What a broken or hostile instance says to one request: the next client must not get any of it."""

_GET = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"x"))
_POST = ((b":method", b"POST"), *_GET[1:])
_EVIL = b"x\r\n\r\n" + SMUGGLED
Rows = tuple[tuple[bytes, bytes], ...]


def _with(name: bytes, value: bytes) -> Rows:
    """A GET with another value of one pseudo field."""
    return tuple((key, value if key == name else old) for key, old in _GET)


HTTP2: dict[str, tuple[Rows, bytes | None]] = {
    # Line ends where HTTP/2 has none.
    "CRLF in a value": ((*_GET, (b"x", b"y\r\nz: 1")), None),
    "a request in a value": ((*_GET, (b"x", _EVIL)), None),
    "LF in a value": ((*_GET, (b"x", b"y\nz: 1")), None),
    "CR in a value": ((*_GET, (b"x", b"y\rz")), None),
    "NUL in a value": ((*_GET, (b"x", b"y\0z")), None),
    "DEL in a value": ((*_GET, (b"x", b"y\x7fz")), None),
    "CRLF in a name": ((*_GET, (b"x: y\r\nz", b"1")), None),
    "a colon in a name": ((*_GET, (b"transfer-encoding: chunked", b"")), None),
    "a space in a name": ((*_GET, (b"transfer-encoding ", b"chunked")), None),
    "capitals in a name": ((*_GET, (b"Transfer-Encoding", b"chunked")), None),
    "an empty name": ((*_GET, (b"", b"y")), None),
    "CRLF in :path": (_with(b":path", b"/a HTTP/1.1\r\nHost: x\r\n\r\nGET /smuggled"), None),
    "a space in :path": (_with(b":path", b"/a HTTP/1.1"), None),
    "a tab in :path": (_with(b":path", b"/a\tb"), None),
    "a fragment in :path": (_with(b":path", b"/a#b"), None),
    "high bytes in :path": (_with(b":path", b"/\xc3\xa9"), None),
    "an absolute :path": (_with(b":path", b"http://x/a"), None),
    "a :path without slash": (_with(b":path", b"a"), None),
    "an empty :path": (_with(b":path", b""), None),
    "an asterisk for GET": (_with(b":path", b"*"), None),
    "dot segments in :path": (_with(b":path", b"/a/../smuggled"), None),
    "CRLF in :method": (_with(b":method", b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\nGET"), None),
    "a target in :method": (_with(b":method", b"GET /smuggled HTTP/1.1"), None),
    "a space in :method": (_with(b":method", b"GET "), None),
    "CONNECT": (((b":method", b"CONNECT"), (b":authority", b"x:80")), None),
    "extended CONNECT": ((*_with(b":method", b"CONNECT"), (b":protocol", b"websocket")), None),
    "TRACE": (_with(b":method", b"TRACE"), None),
    "CRLF in :authority": (_with(b":authority", b"x\r\ntransfer-encoding: chunked"), None),
    "a path in :authority": (_with(b":authority", b"x/y"), None),
    "a user in :authority": (_with(b":authority", b"u@x"), None),
    "a space in :authority": (_with(b":authority", b"x y"), None),
    "CRLF in :scheme": (_with(b":scheme", b"http\r\nx: y"), None),
    # What must be there once.
    "two :path": ((*_GET, (b":path", b"/smuggled")), None),
    "two :method": ((_GET[0], *_GET), None),
    "two :authority": ((*_GET, (b":authority", b"y")), None),
    "a pseudo field behind fields": ((*_GET[:3], (b"x", b"y"), _GET[3]), None),
    "an unknown pseudo field": ((*_GET, (b":status", b"200")), None),
    "no :path": (_GET[:2] + _GET[3:], None),
    "Host and another :authority": ((*_GET, (b"host", b"y")), None),
    "two Hosts": ((*_GET[:3], (b"host", b"x"), (b"host", b"y")), None),
    "no host at all": (_GET[:3], None),
    # Framing and fields of HTTP/1.1's connections.
    "H2.TE": ((*_POST, (b"transfer-encoding", b"chunked")), b"0\r\n\r\n" + SMUGGLED),
    "H2.CL, without a body": ((*_POST, (b"content-length", b"5")), None),
    "two lengths": ((*_POST, (b"content-length", b"1"), (b"content-length", b"35")), SMUGGLED),
    "two lengths, the same": ((*_POST, (b"content-length", b"35"), (b"content-length", b"35")), SMUGGLED),
    "a length with a sign": ((*_POST, (b"content-length", b"+35")), SMUGGLED),
    "a list of lengths": ((*_POST, (b"content-length", b"35, 35")), SMUGGLED),
    "content_length": ((*_POST, (b"content_length", b"0")), SMUGGLED),
    "connection": ((*_GET, (b"connection", b"x-secret")), None),
    "keep-alive": ((*_GET, (b"keep-alive", b"5")), None),
    "proxy-connection": ((*_GET, (b"proxy-connection", b"keep-alive")), None),
    "upgrade": ((*_GET, (b"upgrade", b"websocket")), None),
    "te other than trailers": ((*_GET, (b"te", b"gzip")), None),
    "x_forwarded_for": ((*_GET, (b"x_forwarded_for", b"192.0.2.1")), None),
    "CRLF in the field that is kept apart": ((*_GET, (b"grpc-timeout", b"1S\r\nx: y")), None),
    "a request in it": ((*_GET, (b"grpc-timeout", _EVIL)), None),
    "that field twice": ((*_GET, (b"grpc-timeout", b"1S"), (b"grpc-timeout", b"1S\r\nx: y")), None),
    "an unknown expectation": ((*_POST, (b"expect", b"200-maybe")), b"x"),
}
"""Requests over HTTP/2 (fields and body) that HTTP/1.1 could read as another, or as two: refused, nothing is passed on."""

HTTP2_LENGTHS: dict[str, tuple[Rows, bytes]] = {
    "shorter": ((*_POST, (b"content-length", b"0")), SMUGGLED),
    "longer": ((*_POST, (b"content-length", b"100")), SMUGGLED),
}
"""Bodies that are not as long as was said: what is passed on before that shows is one request, framed as it was said."""
