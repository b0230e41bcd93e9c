"""Cursors and views: woken once per arming, in slices, by what concerns them and by nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from townhall.core import Changes, KeyRange
from townhall.hub import cursors as module
from townhall.hub.cursors import Cursors
from townhall.model import limits
from townhall.model.errors import OverLimit
from townhall.model.instance import ServiceKey

WEB = ServiceKey("default", "default", "web")
API = ServiceKey("default", "default", "api")


def run(body: Callable[[Cursors], Awaitable[None]]) -> None:
    async def main() -> None:
        await body(Cursors(asyncio.get_running_loop()))

    asyncio.run(main())


async def turn(count: int = 1) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def changed(*services: ServiceKey) -> Changes:
    return Changes(1, services=set(services))


def test_a_change_wakes_whom_it_concerns_once_and_later() -> None:
    async def body(cursors: Cursors) -> None:
        woken: list[str] = []
        cursors.watch([WEB], lambda: woken.append("web"))
        cursors.watch([API], lambda: woken.append("api"))
        cursors.watch([KeyRange("native", b"a", b"b")], lambda: woken.append("keys"))
        cursors.publish(changed(WEB))
        assert woken == [], "never from within a commit"
        await turn()
        assert woken == ["web"]
        cursors.publish(changed(WEB, API))
        cursors.publish(Changes(2, keys=[("native", b"ab")]))
        await turn()
        assert woken == ["web", "api", "keys"], "the first one has not been armed again"

    run(body)


def test_arming_after_a_change_wakes_at_once() -> None:
    async def body(cursors: Cursors) -> None:
        woken: list[int] = []
        ticket = cursors.watch([WEB], lambda: woken.append(1))
        cursors.publish(changed(WEB))
        await turn()
        cursors.publish(changed(WEB))
        cursors.publish(changed(WEB))
        await turn()
        assert len(woken) == 1
        ticket.arm()
        assert len(woken) == 1
        await turn()
        assert len(woken) == 2
        ticket.arm()
        ticket.arm()
        await turn()
        assert len(woken) == 2, "nothing happened since"

    run(body)


def test_changes_while_it_stands_in_line_are_one_wake_up() -> None:
    async def body(cursors: Cursors) -> None:
        woken: list[int] = []
        cursors.watch([WEB, API], lambda: woken.append(1))
        for _ in range(5):
            cursors.publish(changed(WEB, API))
        assert cursors.waiting == 1
        await turn()
        assert woken == [1]

    run(body)


def test_a_change_while_the_watcher_looks_is_not_lost() -> None:
    async def body(cursors: Cursors) -> None:
        woken: list[int] = []

        def wake() -> None:
            woken.append(1)
            if len(woken) == 1:
                cursors.publish(changed(WEB))
            ticket.arm()

        ticket = cursors.watch([WEB], wake)
        cursors.publish(changed(WEB))
        await turn(3)
        assert len(woken) == 2

    run(body)


def test_a_cancelled_cursor_is_silent_even_when_it_stood_in_line() -> None:
    async def body(cursors: Cursors) -> None:
        woken: list[int] = []
        ticket = cursors.watch([WEB], lambda: woken.append(1))
        cursors.publish(changed(WEB))
        ticket.cancel()
        ticket.cancel()
        ticket.arm()
        cursors.publish(changed(WEB))
        await turn(2)
        assert woken == []
        assert cursors.count == 0

    run(body)


def test_many_are_woken_in_slices() -> None:
    async def body(cursors: Cursors) -> None:
        count = 3 * limits.FANOUT_SLICE_COUNT
        woken: list[int] = []
        for _ in range(count):
            cursors.watch([WEB], lambda: woken.append(1))
        cursors.publish(changed(WEB))
        seen = []
        for _ in range(5):
            await turn()
            seen.append(len(woken))
        assert seen == [limits.FANOUT_SLICE_COUNT * n for n in (0, 1, 2, 3, 3)], "the writer's answer goes first"
        assert cursors.wakes == count

    run(body)


def test_a_change_while_a_crowd_is_marked_counts_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FANOUT_SLICE_COUNT", 2)

    async def body(cursors: Cursors) -> None:
        heard: list[list[int]] = [[] for _ in range(5)]

        def follow(number: int) -> None:
            def wake() -> None:
                heard[number].append(ticket.since["etcd"])
                ticket.arm()

            ticket = cursors.watch([KeyRange("etcd", b"a")], wake)

        for number in range(5):
            follow(number)

        def change(revision: int) -> None:
            cursors.publish(Changes(revision, keys=[("etcd", b"a")], firsts={"etcd": revision}))

        change(7)
        change(8)
        assert cursors.waiting == 5, "one crowd, however often it changes before it is marked"
        await turn(2)
        assert heard == [[7], [7], [], [], []]
        change(9)
        change(10)
        await turn(20)
        assert [one[0] for one in heard] == [7] * 5
        assert [one[1:] for one in heard] == [[9]] * 5
        assert cursors.waiting == 0

    run(body)


def test_who_leaves_a_crowd_before_it_is_marked_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FANOUT_SLICE_COUNT", 2)

    async def body(cursors: Cursors) -> None:
        woken: list[int] = []
        tickets = [cursors.watch([WEB], lambda number=number: woken.append(number)) for number in range(5)]
        cursors.publish(changed(WEB))
        tickets[0].cancel()
        await turn()
        tickets[3].cancel()
        await turn(9)
        assert woken == [1, 2, 4]

    run(body)


def test_one_that_fails_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def body(cursors: Cursors) -> None:
        woken: list[int] = []

        def broken() -> None:
            raise ConnectionResetError("gone")

        cursors.watch([WEB], broken)
        cursors.watch([WEB], lambda: woken.append(1))
        cursors.publish(changed(WEB))
        await turn()
        assert woken == [1]
        assert cursors.wake_errors == 1

    with caplog.at_level(logging.ERROR):
        run(body)
    assert "waking a cursor failed" in caplog.text


def test_the_number_of_cursors_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CURSORS_COUNT_MAX", 2)

    async def body(cursors: Cursors) -> None:
        first = cursors.watch([WEB], lambda: None)
        cursors.watch([WEB], lambda: None)
        with pytest.raises(OverLimit):
            cursors.watch([WEB], lambda: None)
        first.cancel()
        cursors.watch([WEB], lambda: None)

    run(body)


def test_a_view_goes_stale_with_the_commit() -> None:
    async def body(cursors: Cursors) -> None:
        view = cursors.view([WEB])
        other = cursors.view([API])
        both = cursors.view([WEB, API])
        assert cursors.view([WEB]) is view, "shared while it is fresh"
        cursors.publish(changed(WEB))
        assert (view.fresh, other.fresh, both.fresh) == (False, True, False)
        again = cursors.view([WEB])
        assert again.fresh
        assert again is not view
        assert cursors.views == 2

    run(body)


def test_views_are_bounded_and_the_oldest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VIEWS_COUNT_MAX", 2)

    async def body(cursors: Cursors) -> None:
        views = [cursors.view([("services", name)]) for name in "abc"]
        assert [view.fresh for view in views] == [False, True, True]
        assert cursors.views == 2

    run(body)


def test_interests_outside_the_journal_can_be_touched() -> None:
    async def body(cursors: Cursors) -> None:
        woken: list[int] = []
        cursors.watch([("drain", WEB)], lambda: woken.append(1))
        cursors.touch([("drain", API)])
        await turn()
        assert woken == []
        cursors.touch([("drain", WEB)])
        await turn()
        assert woken == [1]

    run(body)


def test_a_cursor_knows_the_first_of_the_writes_that_woke_it() -> None:
    async def body(cursors: Cursors) -> None:
        seen: list[int] = []
        ticket = cursors.watch([KeyRange("etcd", b"a")], lambda: seen.append(ticket.since["etcd"]))
        cursors.publish(Changes(1, keys=[("etcd", b"a")], firsts={"etcd": 7}))
        cursors.publish(Changes(2, keys=[("etcd", b"a")], firsts={"etcd": 9}))
        await turn()
        cursors.publish(Changes(3, keys=[("etcd", b"a")], firsts={"etcd": 11}))
        cursors.publish(Changes(4, keys=[("etcd", b"a")], firsts={"etcd": 12}))
        ticket.arm()
        await turn()
        assert seen == [7, 11]

    run(body)
