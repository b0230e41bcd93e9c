from __future__ import annotations

import pytest

from townhall.gateway.requests import RequestHead, RequestHeads
from townhall.model.errors import Misuse
from townhall.model.limits import PROXY_MEMO_COUNT_MAX, PROXY_MEMO_SIZE_MAX
from townhall.wire.http1 import CHUNKED


def read(*lines: str, dot_segments: bool = False) -> RequestHead:
    raw = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return RequestHeads(target_size_max=1_000, dot_segments=dot_segments).read(raw)


def refused(*lines: str) -> int:
    with pytest.raises(Misuse) as error:
        read(*lines)
    return error.value.fields["http_status"]


def test_a_plain_request() -> None:
    head = read("GET /a%2Fb//c?x=1 HTTP/1.1", "Host: API.example.org:8080", "Accept: a", "accept: b")
    assert (head.method, head.target, head.path, head.query) == (b"GET", b"/a%2Fb//c?x=1", b"/a%2Fb//c", b"?x=1")
    fields = head.fields
    assert fields.authority == b"API.example.org:8080"
    assert fields.host == b"api.example.org"
    assert fields.by_name[b"accept"] == b"a, b"
    assert fields.onward == b"accept: a\r\naccept: b\r\n"
    assert fields.keep_alive
    assert fields.length == 0
    assert head.idempotent


@pytest.mark.parametrize(
    ("host", "expected"),
    [("x", b"x"), ("[::1]:80", b"[::1]"), ("[::1]", b"[::1]"), ("X.", b"x"), ("x.:80", b"x"), ("x:", b"x")],
)
def test_hosts_lose_their_port(host: str, expected: bytes) -> None:
    assert read("GET / HTTP/1.1", f"Host: {host}").fields.host == expected


def test_absolute_targets_become_paths() -> None:
    assert read("GET http://x/a?b HTTP/1.1", "Host: x").target == b"/a?b"
    assert read("GET http://X HTTP/1.1", "Host: x").target == b"/"
    assert read("GET http://x?q HTTP/1.1", "Host: x").target == b"/?q"
    assert read("OPTIONS * HTTP/1.1", "Host: x").target == b"*"
    assert refused("GET http://y/a HTTP/1.1", "Host: x") == 400
    assert refused("GET http://u@x/a HTTP/1.1", "Host: x") == 400
    assert refused("GET ftp://x/a HTTP/1.1", "Host: x") == 400
    assert refused("GET http:///a HTTP/1.1", "Host: x") == 400
    assert refused("CONNECT x:443 HTTP/1.1", "Host: x") == 501
    assert refused("GET a HTTP/1.1", "Host: x") == 400
    assert refused("GET * HTTP/1.1", "Host: x") == 400


@pytest.mark.parametrize(
    "path", ["/a/../b", "/..", "/a/.", "/%2e%2E/b", "/a/.%2e", "/a\\..\\b", "/a/..%2fb", "/a/..;x"]
)
def test_dot_segments_are_refused_unless_wanted(path: str) -> None:
    assert refused(f"GET {path} HTTP/1.1", "Host: x") == 400
    assert read(f"GET {path} HTTP/1.1", "Host: x", dot_segments=True).target == path.encode()


@pytest.mark.parametrize("path", ["/a..b", "/...", "/.well-known/x", "/a.b/c", "/a?b=/../c"])
def test_dots_elsewhere_are_nothing_special(path: str) -> None:
    assert read(f"GET {path} HTTP/1.1", "Host: x").target == path.encode()


def test_hop_by_hop_fields_end_here() -> None:
    fields = read(
        "GET / HTTP/1.1", "Host: x", "Connection: keep-alive, X-Mine", "X-Mine: 1", "Keep-Alive: 5", "TE: gzip",
        "Proxy-Connection: x", "Upgrade: h2c", "HTTP2-Settings: x", "Proxy-Authorization: x", "X-Other: 2",
    ).fields  # fmt: skip
    assert fields.onward == b"x-other: 2\r\n"
    assert not fields.upgrade


def test_connection_must_not_name_what_framing_needs() -> None:
    assert refused("GET / HTTP/1.1", "Host: x", "Connection: Host") == 400
    assert refused("POST / HTTP/1.1", "Host: x", "Connection: content-length", "Content-Length: 1") == 400


def test_who_asks_is_kept_apart() -> None:
    fields = read("GET / HTTP/1.1", "Host: x", "X-Forwarded-For: a", "X-Forwarded-For: b", "Forwarded: for=a").fields
    assert fields.onward == b""
    assert fields.claimed_for == b"a, b"
    assert fields.forwarded == b"forwarded: for=a\r\n"
    # A program behind WSGI cannot tell these apart.
    assert refused("GET / HTTP/1.1", "Host: x", "X_Forwarded_For: a") == 400
    assert refused("GET / HTTP/1.1", "Host: x", "Content_Length: 1") == 400


def test_bodies_and_expectations() -> None:
    assert read("POST / HTTP/1.1", "Host: x", "Content-Length: 007").fields.length == 7
    assert read("POST / HTTP/1.1", "Host: x", "Transfer-Encoding: Chunked").fields.length == CHUNKED
    assert read("POST / HTTP/1.1", "Host: x", "Expect: 100-Continue").fields.expects_continue
    assert refused("POST / HTTP/1.1", "Host: x", "Expect: 200-ok") == 417
    assert read("GET / HTTP/1.1", "Host: x", "TE: trailers", "Connection: te").fields.takes_trailers
    assert not read("GET / HTTP/1.1", "Host: x", "TE: trailers").fields.takes_trailers


def test_old_clients() -> None:
    head = read("GET / HTTP/1.0")
    assert head.fields.old
    assert not head.fields.keep_alive
    assert read("GET / HTTP/1.0", "Connection: keep-alive").fields.keep_alive
    assert not read("GET / HTTP/1.1", "Host: x", "Connection: close").fields.keep_alive


def test_web_sockets_are_the_only_upgrade() -> None:
    asked = ("GET / HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: WebSocket")
    assert read(*asked).fields.upgrade == b"websocket"
    assert refused("POST / HTTP/1.1", *asked[1:]) == 400
    assert refused(*asked, "Content-Length: 4") == 400
    assert not read("GET / HTTP/1.1", "Host: x", "Upgrade: websocket").fields.upgrade
    assert not read(*asked[:3], "Upgrade: websocket, h2c").fields.upgrade


def test_sizes() -> None:
    assert refused(f"GET /{'a' * 1_000} HTTP/1.1", "Host: x") == 414


def test_fields_are_remembered_and_the_line_is_not() -> None:
    heads = RequestHeads(target_size_max=1_000)
    first = heads.read(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
    second = heads.read(b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
    assert first.fields is second.fields
    assert (first.target, second.target) == (b"/a", b"/b")
    with pytest.raises(Misuse):
        heads.read(b"GET /b c HTTP/1.1\r\nHost: x\r\n\r\n")
    with pytest.raises(Misuse):
        heads.read(b"GET\t/b HTTP/1.1\r\nHost: x\r\n\r\n")
    large = b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * PROXY_MEMO_SIZE_MAX + b"\r\n\r\n"
    assert heads.read(large).fields is not heads.read(large).fields
    for number in range(PROXY_MEMO_COUNT_MAX + 1):
        heads.read(b"GET / HTTP/1.1\r\nHost: %d\r\n\r\n" % number)
    assert heads.read(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").fields is not first.fields


def test_hops_that_are_left_are_counted_for_options_alone() -> None:
    head = read("OPTIONS /a HTTP/1.1", "Host: x", "Max-Forwards: 3")
    assert head.fields.onward == b"max-forwards: 2\r\n"
    assert not head.last_hop
    assert read("OPTIONS /a HTTP/1.1", "Host: x", "Max-Forwards: 00").last_hop
    assert not read("GET /a HTTP/1.1", "Host: x", "Max-Forwards: 0").last_hop
    assert read("GET /a HTTP/1.1", "Host: x", "Max-Forwards: 3").fields.onward == b"max-forwards: 3\r\n"
    assert refused("OPTIONS /a HTTP/1.1", "Host: x", "Max-Forwards: some") == 400
    heads = RequestHeads(target_size_max=1_000)
    rest = b" /a HTTP/1.1\r\nHost: x\r\nMax-Forwards: 3\r\n\r\n"
    # What is remembered of the fields below one method's line does not mislead the other's.
    found = [heads.read(method + rest).fields.onward for method in (b"OPTIONS", b"GET", b"OPTIONS")]
    assert found == [b"max-forwards: 2\r\n", b"max-forwards: 3\r\n", b"max-forwards: 2\r\n"]


def test_who_passed_it_on() -> None:
    assert read("GET / HTTP/1.1", "Host: x", "Via: 1.1 a, HTTP/1.0 b (c)", "Via: 2 d").fields.passed == {
        b"a",
        b"b",
        b"d",
    }
    assert read("GET / HTTP/1.1", "Host: x", "Via: nonsense").fields.passed == frozenset()
