from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serve_support import FakeFace, get

from townhall.model.errors import Misuse, Unauthenticated
from townhall.model.limits import HEAD_MEMO_SIZE_MAX
from townhall.serve.heads import Heads
from townhall.serve.options import HttpOptions
from townhall.wire.http1 import CHUNKED


def heads(**options: int) -> Heads:
    return Heads(FakeFace(), HttpOptions(**options))  # type: ignore[arg-type]


def test_a_plan_says_everything_about_a_request() -> None:
    plan = heads().plan(
        get(
            "/names/a%2Fb%20c?x=1&x=2&y",
            "X-Token: secret",
            "Accept-Encoding: gzip, br",
            "If-None-Match: W/1",
            "X-Many: a",
            "X-Many:  b ",
            "X-Latin: \xe9",
        )
    )
    assert (plan.method, plan.path, plan.segments) == ("GET", "/names/a/b c", {"name": "a/b c"})
    assert plan.query == {"x": ["1", "2"], "y": [""]}
    assert plan.headers["x-many"] == "a, b"
    assert plan.headers["x-latin"] == "é"
    assert plan.headers["host"] == "test"
    assert plan.secret == "secret"
    assert (plan.gzip, plan.length, plan.keep_alive, plan.old, plan.duplex) == (True, 0, True, False, False)
    assert plan.key == (b"/names/a%2Fb%20c?x=1&x=2&y", "secret", True, "", "W/1")


def test_absolute_targets_lead_to_the_same_route() -> None:
    plan = heads().plan(get("http://elsewhere:1/hello?a=b"))
    assert (plan.path, plan.query, plan.fixed) == ("/hello", {"a": ["b"]}, None)


@pytest.mark.parametrize(
    ("version", "fields", "keep_alive"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.1", "Connection: Foo, CLOSE\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: Keep-Alive\r\n", True),
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", True),
    ],
)
def test_keep_alive(version: str, fields: str, keep_alive: bool) -> None:
    plan = heads().plan(f"GET /hello HTTP/{version}\r\nHost: x\r\n{fields}\r\n".encode())
    assert plan.keep_alive is keep_alive
    assert plan.old is (version == "1.0")
    assert plan.fixed is None


def test_http_1_0_in_a_field_is_not_the_version() -> None:
    assert heads().plan(get("/hello", "X: GET / HTTP/1.0")).old is False


def test_bodies_and_expectations() -> None:
    assert heads().plan(get("/echo", "Content-Length: 7", "Expect: 100-Continue", method="POST")).expects_continue
    plan = heads().plan(get("/echo", "Transfer-Encoding: chunked", method="POST"))
    assert (plan.length, plan.size_max, plan.key) == (CHUNKED, 100_000, None)
    assert heads(body_size_max=9).plan(get("/echo", method="POST")).size_max == 9
    assert heads().plan(get("/duplex", "Transfer-Encoding: chunked", method="POST")).duplex
    assert not heads().plan(b"GET /hello HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects_continue


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("GET", "/nowhere", 404, None),
        ("DELETE", "/hello", 405, b"GET, HEAD, OPTIONS"),
        ("OPTIONS", "/hello", 204, b"GET, HEAD, OPTIONS"),
        ("OPTIONS", "/nowhere", 404, None),
        ("OPTIONS", "*", 204, b"GET, HEAD, OPTIONS, POST"),
    ],
)
def test_answers_that_need_no_handler(method: str, target: str, status: int, allow: bytes | None) -> None:
    plan = heads().plan(get(target, method=method))
    assert plan.fixed is not None
    assert plan.fixed.status == status
    assert dict(plan.fixed.headers).get(b"Allow") == allow
    assert plan.key is None


def test_credentials_that_cannot_be_read_are_an_answer() -> None:
    class Face(FakeFace):
        def credentials(self, headers: object, query: object) -> str:
            raise Unauthenticated("two tokens")

    plan = Heads(Face(), HttpOptions()).plan(get("/hello"))
    assert plan.fixed is not None
    assert plan.fixed.status == 401


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"GET /hello HTTP/1.1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /hello HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /hello HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"BREW /hello HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"get /hello HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"PRI * HTTP/2.0\r\n\r\n", 505),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET hello HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (get("/a%zz"), 400),
        (get("/a%ff"), 400),
        (get("/hello?a=%"), 400),
        (get("/hello", "Expect: 200-ok"), 417),
        (get("/echo", "Content-Length: 1", "Transfer-Encoding: chunked", method="POST"), 400),
        (get("/echo", "Transfer-Encoding: chunked", "Content-Length: 1", method="POST"), 400),
        (get("/echo", "Content-Length: 1", "Content-Length: 1", method="POST"), 400),
        (get("/echo", "Content-Length: 1", "Content-Length: 2", method="POST"), 400),
        (get("/echo", "Content-Length: 1,1", method="POST"), 400),
        (get("/echo", "Content-Length: +1", method="POST"), 400),
        (get("/echo", "Content-Length: 1 2", method="POST"), 400),
        (get("/echo", "Content-Length: " + "9" * 40, method="POST"), 400),
        (get("/echo", "Transfer-Encoding: gzip", method="POST"), 501),
        (get("/echo", "Transfer-Encoding: gzip, chunked", method="POST"), 501),
        (get("/echo", "Transfer-Encoding: chunked, chunked", method="POST"), 400),
        (get("/echo", "Transfer-Encoding: chunked", "Transfer-Encoding: identity", method="POST"), 400),
        (b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (get("/" + "a" * 2_000), 414),
        (get("/hello", *(f"X-{index}: y" for index in range(30))), 431),
    ],
)
def test_heads_that_are_refused(raw: bytes, expected: int) -> None:
    reading = heads(target_size_max=1_000, header_count_max=20)
    with pytest.raises(Misuse) as error:
        reading.plan(raw)
    assert error.value.fields["http_status"] == expected
    assert not reading.young


def test_plans_are_remembered_by_their_bytes_and_the_memory_is_bounded() -> None:
    reading = heads(head_memo_count_max=8)
    first = reading.plan(get("/hello"))
    assert reading.plan(get("/hello")) is first
    assert reading.plan(get("/hello", "X: y")) is not first
    young = reading.young
    for index in range(100):
        reading.plan(get(f"/names/{index}"))
        assert reading.plan(get("/hello")) is first, "what is asked for again and again stays"
        assert len(reading.young) + len(reading._old) <= 8
    assert reading.young is young
    large = get("/hello", "X: " + "y" * HEAD_MEMO_SIZE_MAX)
    assert reading.plan(large) is not reading.plan(large)


FIELDS = [
    (),
    ("Content-Length: 3",),
    ("Connection: close", "Accept-Encoding: gzip"),
    ("X-Token: secret", "If-None-Match: W/1"),
    ("Transfer-Encoding: chunked", "Expect: 100-continue"),
]


def outcome(of: Heads, raw: bytes) -> object:
    """What became of a head, comparable."""
    try:
        plan = of.plan(raw)
    except Misuse as error:
        return error.fields["http_status"], error.message
    return {
        name: getattr(plan, name) for name in plan.__slots__ if name not in {"handler", "fixed"}
    }, plan.fixed is None


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "FOO"]),
    target=st.sampled_from(["/", "/hello", "/names/", "", "http://x/hello", "*"])
    .flatmap(lambda start: st.text("".join(map(chr, range(0x20, 0x7F))) * 2 + "//%%41\t\x7f", max_size=8).map(start.__add__)),
    fields=st.sampled_from(FIELDS),
)  # fmt: skip
def test_known_fields_change_nothing_about_a_head(method: str, target: str, fields: tuple[str, ...]) -> None:
    warm = heads(target_size_max=12)
    outcome(warm, get("/hello", *fields, method=method))
    raw = get(target, *fields, method=method)
    assert outcome(warm, raw) == outcome(heads(target_size_max=12), raw)


def test_every_plain_character_is_read_from_known_fields_as_from_new_ones() -> None:
    warm = heads()
    for code in range(0x21, 0x7F):
        for target in (f"/names/a{chr(code)}b", f"/hello?a={chr(code)}b"):
            assert outcome(warm, get(target)) == outcome(heads(), get(target)), target


def test_the_memory_of_fields_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("townhall.serve.heads._FIELDS_MEMO_COUNT_MAX", 4)
    several = heads()
    for number in range(11):
        several.plan(get("/hello", f"X-Number: {number}"))
    assert len(several._fields) <= 4


def test_a_path_leads_where_it_led_whatever_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("townhall.serve.heads._WAYS_COUNT_MAX", 2)
    reader = heads()
    for number in range(9):
        for target, path, segments in (
            ("/names/a%2Fb", "/names/a/b", {"name": "a/b"}), ("/keys/c/d", "/keys/c/d", {"key": "c/d"}), ("/nowhere", "/nowhere", {}),
        ):  # fmt: skip
            plan = reader.plan(get(f"{target}?index={number}"))
            assert (plan.path, plan.segments, plan.query) == (path, segments, {"index": [str(number)]})
            assert (plan.fixed is None) is bool(segments)
        assert reader.plan(get(f"/names/a?index={number}", method="DELETE")).handler is None, "the method counts, too"
    assert len(reader._ways) <= 2
    reader.plan(get("/names/b"))
    assert ("GET", "/names/b") not in reader._ways, "without a query the whole head is what comes again"
