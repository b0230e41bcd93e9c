"""The interest index against the plainest one: ask everybody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from townhall.core import Changes, KeyRange
from townhall.core.interest import InterestIndex, prefix_of
from townhall.model.instance import ServiceKey

WEB = ServiceKey("default", "default", "web")
DB = ServiceKey("other", "default", "db")


def test_exact_interests():
    index: InterestIndex[str] = InterestIndex()
    index.add([WEB], "web")
    index.add([WEB, DB, ("lease", 7)], "both")
    index.add([("services", "")], "all lists")
    index.add([("services", "other")], "one list")
    index.add([("access", "")], "access")
    assert index.match(Changes(1, services={WEB})) == ["web", "both"]
    assert index.match(Changes(1, services={WEB, DB})) == ["web", "both"]
    assert index.match(Changes(1, leases={7, 8})) == ["both"]
    assert index.match(Changes(1, listings={"default"})) == ["all lists"]
    assert index.match(Changes(1, listings={"other"})) == ["one list", "all lists"]
    assert index.match(Changes(1, access=True)) == ["access"]
    assert index.match(Changes(1)) == []


def test_waiters_for_what_no_commit_changes():
    index: InterestIndex[str] = InterestIndex()
    index.add([("drain", WEB)], "drain")
    assert index.waiters(("drain", WEB)) == ["drain"]
    assert index.waiters(("drain", DB)) == []
    assert index.match(Changes(1, services={WEB})) == []


def test_prefixes():
    assert prefix_of(KeyRange("s", b"a/", b"a0")) == b"a/"
    assert prefix_of(KeyRange("s", b"a\xff", b"b")) == b"a\xff"
    assert prefix_of(KeyRange("s", b"\0", b"\0")) == b""
    assert prefix_of(KeyRange("s", b"a", b"\0")) is None
    assert prefix_of(KeyRange("s", b"\xff", b"\xff\xff")) is None
    assert prefix_of(KeyRange("s", b"a", b"c")) is None


def test_the_list_is_the_callers():
    index: InterestIndex[str] = InterestIndex()
    index.add([WEB], "a")
    index.add([WEB], "b")
    for handle in index.match(Changes(1, services={WEB})):
        index.remove([WEB], handle)
    assert len(index) == 0


def test_adding_twice_and_removing_what_is_not_there():
    index: InterestIndex[str] = InterestIndex()
    prefix, odd = KeyRange("s", b"a", b"b"), KeyRange("s", b"a", b"zz")
    for interest in (WEB, prefix, odd):
        index.add([interest], "h")
        index.add([interest], "h")
    for interest in (DB, KeyRange("s", b"x", b"y"), KeyRange("t", b"a", b"zz")):
        index.remove([interest], "h")
    index.remove([WEB, prefix, odd], "other")
    assert index.match(Changes(1, services={WEB}, keys=[("s", b"a1")])) == ["h"]
    for interest in (WEB, prefix, odd):
        index.remove([interest], "h")
        index.remove([interest], "h")
    assert len(index) == 0
    assert index.match(Changes(1, services={WEB}, keys=[("s", b"a1")])) == []


keys = st.binary(min_size=1, max_size=3).map(lambda key: bytes(byte & 0x83 | 0x60 for byte in key)) | st.just(b"\xff")
ends = st.one_of(st.just(b""), st.just(b"\0"), keys)
ranges = st.builds(KeyRange, st.sampled_from(("s", "t")), keys, ends)


def holds(interest: KeyRange, space: str, key: bytes) -> bool:
    if interest.space != space:
        return False
    if not interest.end:
        return key == interest.start
    return interest.start <= key and (interest.end == b"\0" or key < interest.end)


@given(
    st.lists(st.tuples(st.lists(ranges, min_size=1, max_size=3), st.booleans()), max_size=8),
    st.lists(st.tuples(st.sampled_from(("s", "t")), keys), max_size=4),
)
def test_ranges_as_the_plain_way(watchers, written):
    index: InterestIndex[int] = InterestIndex()
    for number, (interests, _) in enumerate(watchers):
        index.add(interests, number)
    for number, (interests, stays) in enumerate(watchers):
        if not stays:
            index.remove(interests, number)
    expected = {
        number
        for number, (interests, stays) in enumerate(watchers)
        if stays and any(holds(interest, *name) for interest in interests for name in written)
    }
    found = index.match(Changes(1, keys=written))
    assert set(found) == expected
    assert len(found) == len(expected)
    for number, (interests, _) in enumerate(watchers):
        index.remove(interests, number)
    assert len(index) == 0
