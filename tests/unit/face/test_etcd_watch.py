"""Watches: what is answered to each request, and what the watches of a stream hear."""

from __future__ import annotations

from typing import Any

import pytest
from etcd_calls import messages
from etcd_world import EtcdWorld, Streamed, create, watching

from townhall.core.commands import ChangeGuard
from townhall.core.commands_guard import AddKeyRole, AddUser, GrantKeys, GrantRole, SwitchGuard
from townhall.face.etcd import events as etcd_events
from townhall.face.etcd import watch as etcd_watch
from townhall.face.etcd.events import Events, News, Terms
from townhall.face.etcd.member import SPACE
from townhall.model import guard, limits
from townhall.wire.etcd import kv
from townhall.wire.etcd.kv import KeyValue
from townhall.wire.etcd.watch import (
    Event,
    EventType,
    FilterType,
    WatchCancelRequest,
    WatchProgressRequest,
    WatchRequest,
    WatchResponse,
)


@pytest.fixture
def world() -> EtcdWorld:
    return EtcdWorld()


PROGRESS = WatchRequest(progress_request=WatchProgressRequest())
W: dict[str, Any] = {"key": b"w/", "range_end": b"w0"}


def bare(response: WatchResponse) -> tuple[Any, ...]:
    """A response as (id, what it is, revision of its header)."""
    kinds = [name for name in ("created", "canceled", "fragment") if getattr(response, name)]
    assert response.header is not None
    return (response.watch_id, "+".join(kinds) or "events", response.header.revision)


def told(responses: list[WatchResponse]) -> list[tuple[int, list[str]]]:
    """Ids, and events as ``key@revision`` or ``-key@revision``."""
    return [(response.watch_id, [_text(event) for event in response.events]) for response in responses]


def _text(event: Event) -> str:
    assert event.kv is not None
    sign = "-" if event.type == EventType.DELETE else ""
    return f"{sign}{event.kv.key.decode()}@{event.kv.mod_revision}"


def cancel(id_: int) -> WatchRequest:
    return WatchRequest(cancel_request=WatchCancelRequest(watch_id=id_))


def test_puts_and_deletes_with_what_was_before(world: EtcdWorld) -> None:
    stream = watching(world)
    assert [bare(one) for one in stream.say(create(**W, prev_kv=True))] == [(0, "created", 1)]
    world.put(b"w/1", b"a")
    (heard,) = stream.hear()
    assert bare(heard) == (0, "events", 2)
    assert heard.events == [Event(0, KeyValue(b"w/1", 2, 2, 1, b"a"))]
    world.put(b"w/1", b"b")
    (heard,) = stream.hear()
    assert heard.events == [Event(0, KeyValue(b"w/1", 2, 3, 2, b"b"), KeyValue(b"w/1", 2, 2, 1, b"a"))]
    world.delete(b"w/1")
    (heard,) = stream.hear()
    assert heard.events == [Event(1, KeyValue(b"w/1", mod_revision=4), KeyValue(b"w/1", 2, 3, 2, b"b"))]
    assert stream.hear() == []


def test_a_transaction_is_heard_whole_and_in_order(world: EtcdWorld) -> None:
    stream = watching(world)
    stream.say(create(**W))
    puts = [kv.RequestOp(request_put=kv.PutRequest(key=key)) for key in (b"w/2", b"x", b"w/1")]
    world.txn([], puts)
    world.delete(b"w/", range_end=b"w0")
    assert told(stream.hear()) == [(0, ["w/2@2", "w/1@2", "-w/1@3", "-w/2@3"])]


def test_ids_are_given_in_order_or_chosen(world: EtcdWorld) -> None:
    stream = watching(world)
    found = [stream.say(create(b"a", watch_id=id_))[0].watch_id for id_ in (0, 1, 77, 0, 0, -3)]
    assert found == [0, 1, 77, 2, 3, -3]
    refused = stream.say(create(b"b", watch_id=77))
    assert [bare(one) for one in refused] == [(-1, "created+canceled", 1)]
    assert refused[0].cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
    world.put(b"a")
    assert sorted(told(stream.hear())) == [(id_, ["a@2"]) for id_ in (-3, 0, 1, 2, 3, 77)]


def test_filters(world: EtcdWorld) -> None:
    stream = watching(world)
    stream.say(create(b"a", filters=[FilterType.NOPUT]))
    stream.say(create(b"a", filters=[FilterType.NODELETE]))
    stream.say(create(b"a", filters=[FilterType.NOPUT, FilterType.NODELETE]))
    world.put(b"a")
    world.delete(b"a")
    assert told(stream.hear()) == [(0, ["-a@3"]), (1, ["a@2"])]


def test_a_watch_of_the_past_catches_up_in_one_message(world: EtcdWorld) -> None:
    for value in (b"1", b"2", b"3"):
        world.put(b"a", value)
    stream = watching(world)
    created, events = stream.say(create(b"a", start_revision=2))
    assert bare(created) == (0, "created", 4)
    assert told([events]) == [(0, ["a@2", "a@3", "a@4"])]
    assert bare(events) == (0, "events", 4)


def test_a_watch_of_the_future_waits(world: EtcdWorld) -> None:
    stream = watching(world)
    assert [bare(one) for one in stream.say(create(b"a", start_revision=4))] == [(0, "created", 1)]
    for _ in range(4):
        world.put(b"a")
        world.put(b"other")
    assert told(stream.hear()) == [(0, ["a@4", "a@6", "a@8"])]


def test_an_empty_key_is_the_first_key(world: EtcdWorld) -> None:
    stream = watching(world)
    stream.say(create(b""))
    stream.say(create(b"", range_end=b"\0"))
    world.put(b"\0")
    world.put(b"z")
    assert sorted(told(stream.hear())) == [(0, ["\0@2"]), (1, ["\0@2", "z@3"])]


REFUSED: list[tuple[WatchRequest, str]] = [
    (create(b"b", range_end=b"a"), "mvcc: watcher range is empty"),
    (create(b"b", range_end=b"b"), "mvcc: watcher range is empty"),
    (create(b"a", start_revision=-1), "etcdserver: mvcc: required revision has been compacted"),
]


@pytest.mark.parametrize(("request_", "reason"), REFUSED)
def test_a_refused_watch_is_one_message(world: EtcdWorld, request_: WatchRequest, reason: str) -> None:
    stream = watching(world)
    (refused,) = stream.say(request_)
    assert bare(refused) == (-1, "created+canceled", 1)
    assert refused.cancel_reason == reason
    assert not stream.follows


def test_a_compacted_start_is_two_messages(world: EtcdWorld) -> None:
    for _ in range(5):
        world.put(b"a")
    world.compact(4)
    stream = watching(world)
    created, gone = stream.say(create(b"a", start_revision=3))
    assert bare(created) == (0, "created", 6)
    assert bare(gone) == (0, "canceled", 0)
    assert (gone.compact_revision, gone.cancel_reason) == (4, "")
    assert told(stream.say(create(b"a", start_revision=4))[1:]) == [(1, ["a@4", "a@5", "a@6"])]


def test_a_watch_that_falls_off_the_history_is_told_so(world: EtcdWorld) -> None:
    stream = watching(world)
    stream.say(create(b"a"))
    for _ in range(4):
        world.put(b"a")
    world.compact(4)
    (gone,) = stream.hear()
    assert (bare(gone), gone.compact_revision) == ((0, "canceled", 0), 4)
    world.put(b"a")
    assert stream.hear() == []
    assert 0 in stream.follows
    stream.say(WatchRequest())
    assert not stream.follows


def test_cancelling(world: EtcdWorld) -> None:
    stream = watching(world)
    stream.say(create(b"a"))
    world.put(b"a")
    assert [bare(one) for one in stream.say(cancel(0))] == [(0, "canceled", 2)]
    world.put(b"a")
    assert stream.hear() == []
    assert stream.say(cancel(0)) == stream.say(cancel(999)) == stream.say(WatchRequest()) == []
    assert stream.duplex.closed(True) == ()


def test_progress_comes_behind_what_is_due(world: EtcdWorld) -> None:
    stream = watching(world)
    assert [bare(one) for one in stream.say(PROGRESS)] == [(-1, "events", 1)]
    stream.say(create(b"a"))
    stream.say(create(b"b"))
    world.put(b"a")
    # As if the wake-up had not come yet.
    for follow in stream.follows.values():
        world.index.remove((follow.interest,), follow)
    world.put(b"b")
    heard = stream.say(PROGRESS)
    assert told(heard) == [(0, ["a@2"]), (1, ["b@3"]), (-1, [])]
    assert bare(heard[-1]) == (-1, "events", 3)


def test_progress_waits_until_all_have_caught_up(world: EtcdWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_events, "EVENTS_COUNT_MAX", 2)
    monkeypatch.setattr(etcd_watch, "WATCHES_SLICE_COUNT", 1)
    for _ in range(5):
        world.put(b"a")
    stream = Streamed(world, "/etcdserverpb.Watch/Watch", WatchResponse)
    stream.duplex.receive(world.reader(), b"")
    steps: list[Any] = []
    from townhall.wire.protobuf_encode import encode

    steps += stream.duplex.receive(world.reader(), encode(create(b"a", start_revision=2)))
    steps += stream.duplex.receive(world.reader(), encode(PROGRESS))
    heard = [one for step in steps if isinstance(step, bytes) for one in messages(step, WatchResponse)]
    heard += stream.hear()
    assert told(heard) == [(0, []), (0, ["a@2", "a@3"]), (0, ["a@4", "a@5"]), (0, ["a@6"]), (-1, [])]


def test_a_quiet_watch_that_asked_is_told_how_far_it_is(world: EtcdWorld) -> None:
    stream = watching(world)
    stream.say(create(b"a", progress_notify=True))
    stream.say(create(b"b"))
    tick = stream.duplex.stream.tick
    assert tick is not None
    assert stream.duplex.stream.heartbeat_ms == limits.WATCH_PROGRESS_MS
    tick()
    assert stream.hear() == [], "it has only just come"
    world.put(b"z")
    tick()
    assert [bare(one) for one in stream.hear()] == [(0, "events", 2)]
    world.put(b"a")
    assert told(stream.hear()) == [(0, ["a@3"])]
    tick()
    assert stream.hear() == [], "it was told something in this interval"
    tick()
    assert [bare(one) for one in stream.hear()] == [(0, "events", 3)]
    stream.say(cancel(0))
    tick()
    tick()
    assert stream.hear() == []


def test_progress_is_never_told_before_what_happened(world: EtcdWorld) -> None:
    stream = watching(world)
    stream.say(create(b"a", progress_notify=True))
    tick = stream.duplex.stream.tick
    assert tick is not None
    tick()
    # As if the wake-up had not come yet.
    for follow in stream.follows.values():
        world.index.remove((follow.interest,), follow)
    world.put(b"a")
    tick()
    assert told(stream.hear()) == [(0, ["a@2"])]


def test_many_watches_are_told_in_slices(world: EtcdWorld) -> None:
    stream = watching(world)
    count = 2 * etcd_watch.WATCHES_SLICE_COUNT + 1
    for _ in range(count):
        stream.say(create(b"a"))
    world.put(b"a")
    world.put(b"a")
    stream.pulls = 0
    heard = stream.hear()
    assert stream.pulls == 3
    assert told(heard) == [(id_, ["a@2", "a@3"]) for id_ in range(count)]


def test_large_news_are_cut_between_revisions(world: EtcdWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_events, "EVENTS_SIZE_MAX", 100)
    stream = watching(world)
    stream.say(create(**W))
    for _ in range(3):
        world.txn([], [kv.RequestOp(request_put=kv.PutRequest(key=key, value=b"v" * 40)) for key in (b"w/1", b"w/2")])
    assert told(stream.hear()) == [(0, [f"w/1@{n}", f"w/2@{n}"]) for n in (2, 3, 4)]


def test_fragments(world: EtcdWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_watch, "FRAGMENT_SIZE_MAX", 150)
    stream = watching(world)
    stream.say(create(**W, fragment=True))
    stream.say(create(**W))
    keys = [b"w/%d" % n for n in range(5)]
    world.txn([], [kv.RequestOp(request_put=kv.PutRequest(key=key, value=b"v" * 40)) for key in keys])
    heard = stream.hear()
    mine = [one for one in heard if one.watch_id == 0]
    assert [bare(one)[1] for one in mine] == ["fragment", "fragment", "events"]
    assert [_text(event) for one in mine for event in one.events] == [f"w/{n}@2" for n in range(5)]
    assert [len(one.events) for one in heard if one.watch_id == 1] == [5]


def test_events_are_encoded_once_for_all(world: EtcdWorld) -> None:
    world.put(b"a")
    events = Events()

    def news(terms: Terms, after: int) -> News:
        reader = world.reader()
        return events.news(reader, events.known(reader, reader.space_revision(SPACE)), events.form(terms), after)

    first = news(Terms(b"a", b""), 1)
    form = events.form(Terms(b"a", b""))
    assert events.form(Terms(b"a", b"")) is form
    assert news(Terms(b"a", b""), 1) is first
    other = news(Terms(b"a", b"b"), 0)
    assert other.payloads[0][0] is first.payloads[0][0]
    (told,) = first.messages(b"", 0)
    assert first.messages(b"", 0)[0] is told, "the only watches of many streams have the same id"
    (two,) = first.messages(b"", 2)
    assert messages(two, WatchResponse)[0].watch_id == 2
    assert first.messages(b"", 0) == (told,)
    world.put(b"a")
    assert news(Terms(b"a", b""), 1) is not first


def test_large_news_are_told_in_pieces_that_all_share(world: EtcdWorld) -> None:
    world.put(b"a", b"v" * 20_000)
    events, reader = Events(), world.reader()
    found = events.news(reader, events.known(reader, 2), events.form(Terms(b"a", b"")), 1)
    pieces = found.messages(b"", 7)
    assert any(piece is found.payloads[0][0] for piece in pieces)
    assert [one.watch_id for one in messages(b"".join(pieces), WatchResponse)] == [7]


def test_rights_are_asked_watch_by_watch(world: EtcdWorld) -> None:
    world.put(b"a")
    permission = guard.Permission(b"a", b"", guard.Grants.READ)
    for order in (
        AddUser("root"), AddKeyRole("root"), GrantRole("root", "root"), AddUser("amy"), AddKeyRole("reader"),
        GrantKeys("reader", permission), GrantRole("amy", "reader"), SwitchGuard(True),
    ):  # fmt: skip
        assert not isinstance(world.run(ChangeGuard(space=SPACE, order=order)), Exception)
    token = world.login(SPACE, "amy")
    stream = watching(world, token)
    (refused,) = stream.say(create(b"zz"))
    assert bare(refused) == (-1, "created+canceled", 2)
    assert refused.cancel_reason == "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    assert [bare(one) for one in stream.say(create(b"a", start_revision=2))] == [(0, "created", 2), (0, "events", 2)]
    (refused,) = watching(world).say(create(b"a"))
    assert refused.cancel_reason == "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"


def test_a_watch_of_a_quiet_key_outlives_the_compaction_of_others(world: EtcdWorld) -> None:
    stream = watching(world)
    stream.say(create(b"quiet"))
    for _ in range(5):
        world.put(b"busy")
    world.compact(5)
    world.put(b"quiet")
    assert told(stream.hear()) == [(0, ["quiet@7"])]
    world.put(b"busy")
    world.compact(8)
    progress = stream.say(PROGRESS)
    assert [bare(one) for one in progress] == [(-1, "events", 8)], "and is no hindrance to progress"
    world.delete(b"quiet")
    assert told(stream.hear()) == [(0, ["-quiet@9"])]


def test_a_watch_that_missed_something_is_told_so(world: EtcdWorld) -> None:
    stream = watching(world)
    stream.say(create(b"a"))
    world.put(b"a")  # Woken, but its peer does not read.
    world.put(b"a")
    world.compact(3)
    (heard,) = stream.hear()
    assert (heard.canceled, heard.compact_revision) == (True, 3)


def test_progress_before_a_wake_up_that_comes_too_late_does_not_hide_a_loss(world: EtcdWorld) -> None:
    stream = watching(world)
    stream.say(create(b"a"))
    follow = stream.follows[0]
    stream.unfollow(0)  # Its cursor stands in line to be woken, while a transaction and a compaction follow.
    world.put(b"a")
    world.put(b"b")
    world.compact(3)
    stream.say(PROGRESS)
    assert follow.since is not None
    follow.since(2)
    (heard,) = stream.hear()
    assert (heard.canceled, heard.compact_revision) == (True, 3)
