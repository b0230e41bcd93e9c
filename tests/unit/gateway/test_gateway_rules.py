"""The small pure modules: fields, rendering, keys, buckets, breaker, problems, options."""

from __future__ import annotations

import json

import pytest

from townhall.gateway.answers import AnswerReader
from townhall.gateway.breaker import Breaker
from townhall.gateway.buckets import Buckets
from townhall.gateway.fields import end_to_end, options_of, safe_trailers, via
from townhall.gateway.keys import check_source, key_of
from townhall.gateway.options import GatewayOptions
from townhall.gateway.problems import TABLE, answer, of_misuse
from townhall.gateway.rendering import Asker, answer_head, field_block
from townhall.gateway.requests import Fields, RequestHead, RequestHeads
from townhall.model.errors import InvalidField, Misuse
from townhall.model.limits import PROXY_BUCKETS_MAX, PROXY_OPEN_MS
from townhall.wire.http1 import refusal

STRANGER = Asker(b"192.0.2.7", b"https", trusted=False, forwarded=False, name=b"th")


def head(*lines: str) -> RequestHead:
    return RequestHeads(target_size_max=1_000).read("\r\n".join([*lines, "", ""]).encode())


def fields(*rows: str, method: str = "GET") -> Fields:
    return head(f"{method} / HTTP/1.1", "Host: x", *rows).fields


def lines(asker: Asker, *rows: str, expects: bool = False) -> list[bytes]:
    return field_block(fields(*rows), asker, authority=b"x", expects=expects).split(b"\r\n")


def test_lists_of_tokens() -> None:
    assert options_of(b"") == frozenset()
    assert options_of(b"Close, ,\tX-a ;q=1,") == {b"close", b"x-a"}
    rows = [(b"a", b"1"), (b"te", b"x"), (b"x-a", b"2")]
    assert end_to_end(rows, frozenset({b"x-a"})) == [(b"a", b"1")]


def test_trailers_that_would_mislead_end_here() -> None:
    lines = b"X-Sum: 1\r\nContent-Length: 5\r\nx_forwarded_for: a\r\nGrpc-Status: 0\r\n"
    assert safe_trailers(lines) == b"X-Sum: 1\r\nGrpc-Status: 0\r\n"
    assert safe_trailers(b"") == b""


def test_via_grows() -> None:
    assert via(b"", version=b"1.1", name=b"th") == b"via: 1.1 th\r\n"
    assert via(b"1.0 a", version=b"1.1", name=b"th") == b"via: 1.0 a, 1.1 th\r\n"


def test_via_comes_once() -> None:
    found = lines(STRANGER, "Via: 1.0 a", "Via: 1.1 b")
    assert [one for one in found if one.startswith(b"via")] == [b"via: 1.0 a, 1.1 b, 1.1 th"]


def test_a_stranger_is_not_believed() -> None:
    found = lines(STRANGER, "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: http", "Forwarded: for=a", "X-Real-IP: b")
    assert found == [
        b"host: x", b"x-forwarded-for: 192.0.2.7", b"x-forwarded-proto: https", b"x-forwarded-host: x", b"via: 1.1 th", b"", b"",
    ]  # fmt: skip


def test_a_trusted_proxy_is() -> None:
    found = lines(
        STRANGER._replace(trusted=True), "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: http", "Forwarded: for=a"
    )
    assert found[1:4] == [b"x-forwarded-for: 192.0.2.1, 192.0.2.7", b"x-forwarded-proto: http", b"forwarded: for=a"]
    assert b"x-forwarded-host: x" in found
    assert lines(STRANGER._replace(trusted=True))[1] == b"x-forwarded-for: 192.0.2.7"


def test_forwarded_of_rfc_7239() -> None:
    assert b'forwarded: for=192.0.2.7;proto=https;host="x"' in lines(STRANGER._replace(forwarded=True))
    six = STRANGER._replace(address=b"::1", forwarded=True)
    assert b'forwarded: for="[::1]";proto=https;host="x"' in lines(six)


def test_framing_is_our_own() -> None:
    assert b"content-length: 5" in lines(STRANGER, "Content-Length: 05")
    assert b"content-length: 0" in lines(STRANGER, "Content-Length: 0")
    assert b"transfer-encoding: chunked" in lines(STRANGER, "Transfer-Encoding: CHUNKED")
    assert b"expect: 100-continue" in lines(STRANGER, "Expect: 100-continue", "Content-Length: 1", expects=True)
    assert lines(STRANGER, "TE: trailers, gzip", "Connection: TE")[-4:-2] == [b"te: trailers", b"connection: te"]
    assert lines(STRANGER, "Upgrade: websocket", "Connection: upgrade")[-4:-2] == [
        b"connection: upgrade",
        b"upgrade: websocket",
    ]


def answered(raw: bytes, length: int, *, old: bool = False, close: bool = False) -> bytes:
    reader = AnswerReader(GatewayOptions())
    reader.expect(b"GET")
    reader.feed(raw)
    found = reader.head()
    assert found is not None
    first = answer_head(found, length, name=b"th", old=old, close=close)
    assert answer_head(found, length, name=b"th", old=old, close=close) is first
    return first


def test_heads_of_answers() -> None:
    plain = b"HTTP/1.1 200\r\nContent-Length: 5\r\nA: b\r\n\r\n"
    assert answered(plain, 5) == b"HTTP/1.1 200 \r\na: b\r\nvia: 1.1 th\r\ncontent-length: 5\r\n\r\n"
    assert answered(plain, 0).endswith(b"content-length: 5\r\n\r\n")
    assert answered(plain, -1, close=True).endswith(b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n")
    assert answered(plain, -1, old=True, close=True).endswith(b"via: 1.1 th\r\nconnection: close\r\n\r\n")
    assert answered(plain, 1 << 62).endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert answered(plain, 5, old=True).endswith(b"content-length: 5\r\nconnection: keep-alive\r\n\r\n")
    assert answered(b"HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\n", 0) == b"HTTP/1.1 204 N\r\nvia: 1.1 th\r\n\r\n"
    assert answered(b"HTTP/1.1 103 E\r\nLink: a\r\n\r\n", 0) == b"HTTP/1.1 103 E\r\nlink: a\r\n\r\n"
    switched = answered(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 0)
    assert switched == b"HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


def test_keys() -> None:
    asked = head("GET /a?b HTTP/1.1", "Host: x", "X-User: u", "Cookie: a=1; sid=s2;b=3")
    sources = ["path", "header:X-User", "cookie:sid", "address", "header:none", "cookie:none"]
    assert [key_of(one, asked, "h") for one in sources] == [b"/a", b"u", b"s2", b"h", b"h", b"h"]
    for source in ("query", "header:", ":x", ""):
        with pytest.raises(InvalidField):
            check_source(source, field="key")


def test_buckets_fill_with_time() -> None:
    buckets = Buckets(rate=2.0, burst=3)
    assert [buckets.take(b"a", now_s=10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take(b"b", now_s=10.0) == 0.0
    assert buckets.take(b"a", now_s=10.5) == 0.0
    assert buckets.take(b"a", now_s=10.5) == 0.5
    assert [buckets.take(b"a", now_s=100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert Buckets(rate=0.1).take(b"a", now_s=0.0) == 0.0


def test_buckets_are_bounded() -> None:
    buckets = Buckets(rate=1.0, burst=1)
    for number in range(PROXY_BUCKETS_MAX + 10):
        buckets.take(b"%d" % number, now_s=0.0)
    assert len(buckets) == PROXY_BUCKETS_MAX
    assert buckets.take(b"0", now_s=0.0) == 0.0


def test_a_breaker_opens_probes_and_closes() -> None:
    breaker, open_s = Breaker(2), PROXY_OPEN_MS / 1000
    breaker.ended(failed=True, now_s=0.0)
    breaker.ended(failed=False, now_s=0.0)
    breaker.ended(failed=True, now_s=0.0)
    assert breaker.allows(now_s=0.0)
    breaker.ended(failed=True, now_s=1.0)
    assert not breaker.allows(now_s=1.0)
    assert breaker.left_s(now_s=1.0) == open_s
    assert breaker.allows(now_s=1.0 + open_s)
    assert not breaker.allows(now_s=1.0 + open_s)
    breaker.ended(failed=True, now_s=10.0)
    assert not breaker.allows(now_s=10.0)
    assert breaker.allows(now_s=10.0 + open_s)
    breaker.ended(failed=False, now_s=20.0)
    assert breaker.allows(now_s=20.0)
    assert breaker.opened == 2
    never = Breaker(0)
    never.ended(failed=True, now_s=0.0)
    assert never.allows(now_s=0.0)


def test_problems_say_what_to_do() -> None:
    raw = answer(TABLE["rate_limited"], "too often", close=True, retry_after_s=3)
    top, _, body = raw.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"retry-after: 3" in top
    assert b"connection: close" in top
    assert json.loads(body)["code"] == "rate_limited"
    assert json.loads(body)["advice"]
    assert answer(TABLE["no_route"], "x", close=False, body=False).endswith(b"\r\n\r\n")
    for error in (refusal(400, "bad"), refusal(413, "large", limit=5), refusal(501, "no", advice="do not")):
        assert isinstance(error, Misuse)
        assert of_misuse(error).status == error.fields["http_status"]


def test_trusted_networks() -> None:
    trusts = GatewayOptions(trusted_proxies=("127.0.0.0/8", "::1")).trusts()
    assert [trusts(one) for one in ("127.0.0.9", "::1", "::ffff:127.0.0.1", "192.0.2.1", "", "x")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert not GatewayOptions().trusts()("127.0.0.1")
    with pytest.raises(ValueError, match="not appear"):
        GatewayOptions(trusted_proxies=("x",)).trusts()
