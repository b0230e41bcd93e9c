from __future__ import annotations

import gzip
import time

import pytest
from serve_support import FakeFace, FakeView, get

from townhall.face import Reply
from townhall.serve.counters import Counters
from townhall.serve.heads import Heads, Plan
from townhall.serve.options import HttpOptions
from townhall.serve.replies import Replies, date_line

HEADS = Heads(FakeFace(), HttpOptions())


def replies(**options: int) -> Replies:
    return Replies(HttpOptions(**options), Counters())  # type: ignore[arg-type]


def plan(target: str = "/hello", *fields: str, method: str = "GET", version: str = "1.1") -> Plan:
    raw = get(target, *fields, method=method).replace(b"HTTP/1.1", b"HTTP/" + version.encode())
    # A new one each time: what it remembers must not leak from one test into the next.
    return HEADS._read(raw)


def answer(of: Replies, reply: Reply, to: Plan, *, last: bool = False) -> tuple[list[bytes], bytes]:
    head, _, body = of.wire(of.render(reply, to), to, last=last).partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


def test_a_plain_answer() -> None:
    made = replies()
    lines, body = answer(made, Reply(200, b"{}", ((b"X-Index", b"7"),)), plan())
    assert lines == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/json",
        b"X-Index: 7",
        b"Content-Length: 2",
        made.date[:-2],
    ]
    assert body == b"{}"


def test_connection_says_what_happens_next() -> None:
    made = replies()
    assert b"Connection: close" in answer(made, Reply(200), plan(), last=True)[0]
    old = plan("/hello", "Connection: keep-alive", version="1.0")
    assert b"Connection: keep-alive" in answer(made, Reply(200), old)[0]
    assert b"Connection: close" in answer(made, Reply(200), old, last=True)[0]


def test_answers_without_a_body() -> None:
    made = replies()
    assert answer(made, Reply(204, b"ignored"), plan()) == ([b"HTTP/1.1 204 No Content", made.date[:-2]], b"")
    lines, body = answer(made, Reply(304, b"ignored", ((b"ETag", b"1"),)), plan())
    assert (lines[:2], body) == ([b"HTTP/1.1 304 Not Modified", b"ETag: 1"], b"")
    lines, body = answer(made, Reply(200, b"12345"), plan(method="HEAD"))
    assert b"Content-Length: 5" in lines
    assert body == b""
    assert answer(made, Reply(404), plan())[0][1] == b"Content-Length: 0"


def test_gzip_where_it_is_asked_for_and_pays() -> None:
    made = replies(gzip_size_min=100)
    text = b"x" * 100
    asking = plan("/hello", "Accept-Encoding: gzip")
    lines, body = answer(made, Reply(200, text), asking)
    assert gzip.decompress(body) == text
    assert {b"Vary: Accept-Encoding", b"Content-Encoding: gzip", b"Content-Length: %d" % len(body)} <= set(lines)
    lines, body = answer(made, Reply(200, text), plan())
    assert body == text
    assert b"Vary: Accept-Encoding" in lines
    for reply in (
        Reply(200, text[:99]),
        Reply(200, text, ((b"Content-Encoding", b"br"),)),
        Reply(200, text, (), b"application/octet-stream"),
    ):
        assert answer(made, reply, asking)[1] == reply.body
    noise = bytes((index * index * 7919 >> 3) % 251 for index in range(150))
    assert answer(made, Reply(200, noise, (), b"text/plain"), asking)[1] == noise


def test_a_fresh_answer_is_found_for_the_same_question_only() -> None:
    made, view = replies(), FakeView()
    rendered = made.render(Reply(200, b"one", view=view), plan("/hello", "X-Token: a"))
    assert made.find(plan("/hello", "X-Token: a", "X-Other: ignored")) is rendered
    for other in (
        plan("/hello"),
        plan("/hello?", "X-Token: a"),
        plan("/hello", "X-Token: b"),
        plan("/hello", "X-Token: a", "Accept: text/html"),
        plan("/hello", "X-Token: a", "Accept-Encoding: gzip"),
        plan("/hello", "X-Token: a", "If-None-Match: 1"),
        plan("/hello", "X-Token: a", method="HEAD"),
        plan("/hello", "X-Token: a", "Transfer-Encoding: chunked"),
    ):
        assert made.find(other) is None
    view.fresh = False
    assert made.find(plan("/hello", "X-Token: a")) is None
    assert len(made) == made.size == 0


def test_what_is_not_meant_to_be_kept_is_not() -> None:
    made, stale = replies(), FakeView()
    stale.fresh = False
    made.render(Reply(200, b"x"), plan())
    made.render(Reply(200, b"x", view=stale), plan())
    made.render(Reply(200, b"x", view=FakeView()), plan("/echo", method="POST"))
    assert len(made) == 0


def test_the_same_bytes_are_served_until_the_second_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made, view, asking = replies(), FakeView(), plan()
    rendered = made.render(Reply(200, b"x", view=view), asking)
    first = made.wire(rendered, asking, last=False)
    assert made.wire(rendered, asking, last=False) is first
    monkeypatch.setattr(time, "time", lambda: 784_111_777.9)
    made.tick()
    assert made.date == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n" == date_line(784_111_777)
    second = made.wire(rendered, asking, last=False)
    assert b"1994" in second
    assert second != first


def test_the_memory_is_bounded_in_count_and_the_used_stay_longer() -> None:
    made, view = replies(reply_cache_count_max=10), FakeView()
    for index in range(100):
        made.render(Reply(200, b"x", view=view), plan(f"/names/{index}"))
        assert made.find(plan("/names/0")) is not None
        assert len(made) <= 10
    assert made.find(plan("/names/1")) is None
    assert made.find(plan("/names/99")) is not None


def test_the_memory_is_bounded_in_bytes_and_never_loses_the_answer_in_hand() -> None:
    made, view = replies(reply_cache_size_max=10_000), FakeView()
    for index in range(50):
        asking = plan(f"/names/{index}")
        assert answer(made, Reply(200, b"y" * 1_000, view=view), asking)[1] == b"y" * 1_000
        assert made.size <= 10_000
    huge = plan("/names/huge")
    assert answer(made, Reply(200, b"y" * 20_000, view=view), huge)[1] == b"y" * 20_000
    assert made.find(huge) is None
    assert 0 < made.size <= 10_000


def test_a_plan_that_still_points_to_what_was_dropped_holds_no_bytes() -> None:
    made, view = replies(reply_cache_count_max=1), FakeView()
    asking = plan("/names/1")
    dropped = made.render(Reply(200, b"x", view=view), asking)
    made.render(Reply(200, b"x", view=view), plan("/names/2"))
    made.render(Reply(200, b"x", view=view), plan("/names/3"))
    assert made.find(asking) is None
    assert dropped.wire == dropped.body == b""


def test_heads_of_streams() -> None:
    made = replies()
    head = made.stream_head(b"text/event-stream", ((b"X", b"y"),), plan(), last=False)
    assert head == b"".join(
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX: y\r\n",
            b"Transfer-Encoding: chunked\r\n",
            made.date,
            b"\r\n",
        )
    )
    old = made.stream_head(b"text/plain", (), plan(version="1.0"), last=False)
    assert b"Transfer-Encoding" not in old
    assert b"Connection: close" in old


def test_a_field_that_would_break_the_head_is_refused() -> None:
    with pytest.raises(ValueError, match="break"):
        replies().render(Reply(200, headers=((b"X", b"a\r\nSet-Cookie: b"),)), plan())


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("reply", [Reply(200, b"{}", ((b"X", b"1"),)), Reply(204), Reply(200, b"a" * 5_000)])
def test_an_answer_at_once_has_the_same_bytes(reply: Reply, last: bool, version: str, method: str) -> None:
    made = replies()
    to = plan("/hello", "Accept-Encoding: gzip", method=method, version=version)
    at_once = made.answer(reply, to, last=last)
    assert at_once == made.wire(made.render(reply, to), to, last=last)
    assert made._counters.successful == 2


def test_an_answer_at_once_with_a_view_is_remembered() -> None:
    made = replies()
    asked = plan()
    made.answer(Reply(200, b"{}", view=FakeView()), asked, last=False)
    assert made.find(asked) is not None
