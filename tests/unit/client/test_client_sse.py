"""Events are the same however the bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.client.sse import Event, EventReader
from townhall.model.errors import PeerMisbehaved

STREAM = (
    b": hb\n\nid: 4\nevent: snapshot\ndata: {}\n\n"
    b"event: delta\r\nid:5\r\ndata: a\r\ndata:b\r\n\r\n"
    b"retry: 7\nunknown\nevent: empty\n\ndata: last\n\n: hb\n\nid: x\0y\ndata: z\n\n"
)
EVENTS = [
    Event("snapshot", b"{}", "4"),
    Event("delta", b"a\nb", "5"),
    Event("message", b"last", "5"),
    Event("message", b"z", "5"),
]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_any_cutting_gives_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    reader = EventReader()
    found = [event for left, right in itertools.pairwise(edges) for event in reader.feed(STREAM[left:right])]
    assert found == EVENTS


def test_byte_by_byte() -> None:
    reader = EventReader()
    assert [event for n in range(len(STREAM)) for event in reader.feed(STREAM[n : n + 1])] == EVENTS


def test_an_event_has_a_size() -> None:
    reader = EventReader(size_max=10)
    with pytest.raises(PeerMisbehaved):
        reader.feed(b"data: 0123456789")
    reader = EventReader(size_max=10)
    assert reader.feed(b"data: 12345\n") == []
    with pytest.raises(PeerMisbehaved):
        reader.feed(b"data: 67\ndata: 89012\n: x")


@given(st.binary(max_size=300))
def test_garbage_is_events_or_nothing(data: bytes) -> None:
    for event in EventReader().feed(data):
        assert isinstance(event, Event)
