"""How much of the history is forgotten, and when."""

from __future__ import annotations

from townhall.face.etcd.compaction import LOOK_MS, Compaction


def test_by_revisions() -> None:
    policy = Compaction(keep_revisions=100, keep_ms=0)
    assert policy.every_ms == LOOK_MS
    assert [policy.look(0, revision) for revision in (1, 100, 101, 5_000)] == [0, 0, 1, 4_900]


def test_by_time() -> None:
    policy = Compaction(keep_revisions=0, keep_ms=60_000)
    assert policy.every_ms == 6_000
    found = [policy.look(now_ms, 10 + now_ms // 1_000) for now_ms in range(0, 121_000, 6_000)]
    assert found[:10] == [0] * 10
    assert found[10:] == [10 + 6 * n for n in range(11)]


def test_a_quiet_space_is_compacted_up_to_its_last_revision() -> None:
    policy = Compaction(keep_revisions=0, keep_ms=1_000)
    assert policy.every_ms == 1_000
    assert [policy.look(now_ms, 7) for now_ms in (0, 500, 1_000, 9_000)] == [0, 0, 7, 7]


def test_both_keep_what_either_would() -> None:
    policy = Compaction(keep_revisions=10, keep_ms=1_000)
    policy.look(0, 50)
    assert policy.look(1_000, 100) == 50
    assert policy.look(2_000, 105) == 95


def test_neither_forgets_nothing() -> None:
    assert Compaction(keep_revisions=0, keep_ms=0).look(10, 1_000) == 0
