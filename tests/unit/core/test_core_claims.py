"""Which footprints may share a group."""

from __future__ import annotations

import pytest

from townhall.core import EVERYTHING, Footprint, KeyRange, Shared
from townhall.core.claims import Claims


def footprint(*claims: object) -> Footprint:
    return frozenset(claims)


def share(first: Footprint, second: Footprint) -> bool:
    results = []
    for one, other in ((first, second), (second, first)):
        claims = Claims()
        assert claims.admit(one)
        results.append(claims.admit(other))
    assert results[0] == results[1], "meeting is mutual"
    return results[0]


LEASE = ("lease", 7)
KEY = KeyRange("etcd", b"k")


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (footprint(LEASE), footprint(("lease", 8)), True),
        (footprint(LEASE), footprint(LEASE), False),
        (footprint(LEASE), footprint(Shared(LEASE)), False),
        (footprint(Shared(LEASE)), footprint(Shared(LEASE)), True),
        (footprint(KEY), footprint(KeyRange("etcd", b"l")), True),
        (footprint(KEY), footprint(KeyRange("consul", b"k")), True),
        (footprint(KEY), footprint(KEY), False),
        (footprint(KEY), footprint(Shared(KEY)), False),
        (footprint(Shared(KEY)), footprint(Shared(KEY)), True),
        (footprint(KEY), footprint(KeyRange("etcd", b"a", b"k")), True),
        (footprint(KEY), footprint(KeyRange("etcd", b"k", b"l")), False),
        (footprint(KEY), footprint(Shared(KeyRange("etcd", b"a", b"\0"))), False),
        (footprint(KEY), footprint(KeyRange("etcd", b"l", b"\0")), True),
        (footprint(KEY), footprint(KeyRange("consul", b"a", b"\0")), True),
        (footprint(Shared(KEY)), footprint(Shared(KeyRange("etcd", b"a", b"\0"))), True),
        (footprint(Shared(KEY)), footprint(KeyRange("etcd", b"a", b"\0")), False),
        (footprint(KeyRange("etcd", b"a", b"c")), footprint(KeyRange("etcd", b"c", b"e")), True),
        (footprint(KeyRange("etcd", b"a", b"d")), footprint(KeyRange("etcd", b"c", b"e")), False),
        (footprint(KeyRange("etcd", b"a", b"\0")), footprint(KeyRange("etcd", b"c", b"\0")), False),
        (footprint(Shared(KeyRange("etcd", b"a", b"d"))), footprint(Shared(KeyRange("etcd", b"c", b"e"))), True),
        (footprint(Shared(KeyRange("etcd", b"a", b"d"))), footprint(KeyRange("etcd", b"c", b"e")), False),
        (footprint(), footprint(KEY), True),
        (footprint(), EVERYTHING, False),
        (EVERYTHING, EVERYTHING, False),
        (footprint(KEY), EVERYTHING, False),
    ],
)
def test_who_may_share_a_group(first: Footprint, second: Footprint, together: bool) -> None:
    assert share(first, second) is together


def test_the_first_always_joins_and_a_refused_one_leaves_nothing() -> None:
    claims = Claims()
    assert claims.admit(footprint(KEY, Shared(KEY)))
    assert not claims.admit(footprint(KEY, LEASE))
    assert claims.admit(footprint(LEASE))


def test_a_blocked_command_is_not_overtaken() -> None:
    claims = Claims()
    assert claims.admit(footprint(KEY))
    claims.block(footprint(KEY, LEASE))
    assert not claims.admit(footprint(LEASE))
    assert claims.admit(footprint(("lease", 8)))
    claims.block(EVERYTHING)
    assert not claims.admit(footprint(("lease", 9)))


def test_what_waits_blocks_those_behind_it_without_joining_the_group() -> None:
    """The second waits for the first; the third meets only the second, and must not overtake it."""
    claims = Claims()
    assert claims.admit(footprint(LEASE))
    second = footprint(LEASE, KEY)
    assert not claims.admit(second)
    claims.block(second)
    assert not claims.admit(footprint(KEY))
    assert claims.admit(footprint(("lease", 8)))
