"""The wheel against a list of deadlines that is searched from end to end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from townhall.hub.deadlines import BUCKET_MS, HORIZON_MS, Deadlines


def test_a_lease_is_due_when_its_bucket_is_past_and_never_early() -> None:
    wheel = Deadlines(0)
    wheel.file(7, 1_000)
    assert wheel.due(1_000, 100) == []
    assert wheel.due(1_000 + BUCKET_MS, 100) == [7]
    assert wheel.due(9_999, 100) == [], "it is out of the wheel"
    assert wheel.at == {7: 1_000}


def test_a_renewal_is_one_store() -> None:
    wheel = Deadlines(0)
    wheel.file(7, 1_000)
    wheel.at[7] = 1_600
    assert wheel.due(1_500, 100) == []
    assert wheel.due(1_600 + BUCKET_MS, 100) == [7]


def test_a_move_to_an_earlier_deadline_counts_at_once() -> None:
    wheel = Deadlines(0)
    wheel.file(7, 10_000)
    wheel.move(7, 500)
    assert wheel.due(600, 100) == [7]
    wheel.file(7, 12_000)
    assert wheel.due(11_000, 100) == [], "the entry of the first filing is stale"
    assert wheel.due(12_100, 100) == [7]


def test_what_is_forgotten_is_never_due_and_may_come_back() -> None:
    wheel = Deadlines(0)
    wheel.file(7, 1_000)
    wheel.forget(7, filed=True)
    wheel.file(7, 5_000)
    assert wheel.due(4_900, 100) == []
    assert wheel.due(5_100, 100) == [7]
    wheel.forget(7, filed=False)
    assert len(wheel) == 0


def test_lifting_keeps_the_deadline_but_ends_the_filing() -> None:
    wheel = Deadlines(0)
    wheel.file(7, 1_000)
    wheel.lift(7)
    assert wheel.due(5_000, 100) == []
    assert wheel.at[7] == 1_000
    wheel.file(7, 6_000)
    assert wheel.due(6_100, 100) == [7]


def test_work_is_sliced() -> None:
    wheel = Deadlines(0)
    for lease in range(1, 1_001):
        wheel.file(lease, 500)
    over: list[int] = []
    slices = 0
    while part := wheel.due(1_000, 300):
        assert len(part) <= 300
        over += part
        slices += 1
    assert slices == 4
    assert sorted(over) == list(range(1, 1_001))


def test_long_deadlines_leave_nothing_behind_for_longer_than_the_horizon() -> None:
    wheel = Deadlines(0)
    for lease in range(1, 101):
        wheel.file(lease, 10**12)
        wheel.forget(lease, filed=True)
    assert wheel.due(HORIZON_MS + 2 * BUCKET_MS, 1_000) == []
    assert not wheel._orphans
    assert not wheel._buckets


def test_a_leap_in_time_is_no_walk() -> None:
    wheel = Deadlines(0)
    wheel.file(1, 10)
    assert wheel.due(10**15, 10) == [1]
    wheel.file(2, 10**15 + 10)
    assert wheel.due(10**15 + 1_000, 10) == [2]


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["file", "renew", "forget", "move", "pass"]), st.integers(1, 5), st.integers(1, 3_000)),
    max_size=60,
)


@given(OPERATIONS)
def test_it_agrees_with_a_list(operations: list[tuple[str, int, int]]) -> None:
    wheel = Deadlines(0)
    filed: dict[int, int] = {}
    now = 0
    for what, lease, amount in operations:
        if what == "file" and lease not in filed:
            wheel.file(lease, now + amount)
            filed[lease] = now + amount
        elif what == "renew" and lease in filed:
            wheel.at[lease] = filed[lease] = max(filed[lease], now + amount)
        elif what == "move" and lease in filed and now + amount < filed[lease]:
            wheel.move(lease, now + amount)
            filed[lease] = now + amount
        elif what == "forget" and lease in filed:
            wheel.forget(lease, filed=True)
            del filed[lease]
        elif what == "pass":
            now += amount
            over = set(wheel.due(now, 10_000))
            assert all(filed[lease] < now for lease in over), "never early"
            late = {lease for lease, deadline in filed.items() if deadline < now - BUCKET_MS}
            assert late <= over, "never later than a bucket"
            for gone in over:
                wheel.forget(gone, filed=False)
                del filed[gone]
    assert wheel.at == filed
