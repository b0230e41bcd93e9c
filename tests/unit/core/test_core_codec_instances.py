"""Instances in a snapshot: packed by what they share, built again equal and shared."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from townhall.core.codec_instances import InstanceChunk, load_instances, pack_instances
from townhall.core.state import Lease, State
from townhall.model.instance import CLEAR, Evidence, Instance, ServiceKey, Verdict
from townhall.model.lease import LeaseKind

A = ServiceKey("default", "", "a")
B = ServiceKey("default", "", "b")
NOTHING: dict[str, Any] = {}


def instance(key: ServiceKey, name: str, **fields: Any) -> Instance:
    given: dict[str, Any] = {"address": "127.0.0.1", "port": 80, "incarnation": 7, "revision": 7, "since": 5}
    return Instance(key=key, id=name, **{**given, "registered_at": 5, "ports": NOTHING, "extra": NOTHING, **fields})


def world() -> State:
    state = State()
    for key in (A, B):
        state.make_service(key)
    state.leases[3] = Lease(3, 9_000, "one", 1, LeaseKind.INSTANCE, 0)
    return state


def again(chunk: InstanceChunk) -> InstanceChunk:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(chunk), type=InstanceChunk)


def test_what_is_loaded_is_what_was_packed_and_counted() -> None:
    suspect = Evidence(lapsed_at=9, held=True)
    tags, about = ("x", "y"), {"version": "1"}
    packed = [
        instance(A, "1", tags=tags, metadata=about, lease=3),
        instance(A, "2", tags=tags, metadata=about, revision=9, since=4, claim="c", origin="127.0.0.1:9"),
        instance(B, "1", tags=tags, lease=3, evidence=suspect, verdict=Verdict.SUSPECT, node="n", weight=2.5),
        instance(B, "2", enabled=False, verdict=Verdict.DOWN, reason="maintenance", extra={"nacos.x": "1"}),
    ]
    chunk = pack_instances(packed)
    assert chunk.runs == [(A, 2), (B, 2)]
    assert len(chunk.looks) == 3
    state = world()
    load_instances(state, again(chunk))
    loaded = [one for service in state.services.values() for one in service.instances.values()]
    assert loaded == packed
    assert loaded[0].tags is loaded[2].tags
    assert loaded[0].metadata is loaded[1].metadata
    assert loaded[0].evidence is CLEAR
    by_store = world()
    for one in packed:
        by_store.store(by_store.services[one.key], None, one)
    assert state.instance_count == 4
    for ours, theirs in [(state.ephemeral, by_store.ephemeral)] + [
        (state.services[key].tally, by_store.services[key].tally) for key in (A, B)
    ]:
        assert msgspec.structs.astuple(ours) == msgspec.structs.astuple(theirs)
    assert set(state.leases[3].attached()) == {(A, "1"), (B, "1")}
    assert state.leases[3].held == 1
    assert state.book.by_node.keys() == by_store.book.by_node.keys()


def test_a_chunk_that_fits_nothing_is_refused() -> None:
    whole = pack_instances([instance(A, "1")])
    with pytest.raises(ValueError, match="rows"):
        load_instances(world(), InstanceChunk([(A, 2)], whole.looks, whole.metadata, whole.rows))
    with pytest.raises(ValueError, match="twice"):
        load_instances(world(), InstanceChunk([(A, 2)], whole.looks, whole.metadata, whole.rows * 2))
    with pytest.raises(IndexError):
        load_instances(world(), InstanceChunk(whole.runs, [], whole.metadata, whole.rows))
    with pytest.raises(KeyError):
        load_instances(world(), pack_instances([instance(A, "1", lease=4)]))
    with pytest.raises(KeyError):
        load_instances(State(), whole)
