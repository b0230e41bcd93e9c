"""Sharing of equal values."""

from __future__ import annotations

from townhall.core.intern import Interner
from townhall.model import limits
from townhall.model.instance import Instance, ServiceKey


def fresh(text: str) -> str:
    return bytes(text, "ascii").decode()


def test_equal_values_become_one():
    interner = Interner()
    assert interner.text(fresh("zone-1")) is interner.text(fresh("zone-1"))
    first = interner.tags((fresh("v1"), fresh("v2")))
    assert interner.tags((fresh("v1"), fresh("v2"))) is first
    pairs = interner.pairs({fresh("k"): fresh("v")})
    assert interner.pairs({fresh("k"): fresh("v")}) is pairs
    assert interner.tags(()) == ()
    assert interner.pairs({}) is interner.pairs({})


def test_order_is_kept():
    interner = Interner()
    interner.pairs({"a": "1", "b": "2"})
    assert list(interner.pairs({"b": "2", "a": "1"})) == ["b", "a"]


def test_what_is_shared_is_not_the_callers_dictionary():
    interner = Interner()
    given = {"k": "v"}
    shared = interner.pairs(given)
    given["k"] = "w"
    assert shared == {"k": "v"}


def test_a_full_table_begins_anew(monkeypatch):
    monkeypatch.setattr(limits, "INTERNED_COUNT_MAX", 2)
    interner = Interner()
    for n in range(20):
        assert interner.text(f"t{n}") == f"t{n}"
        assert interner.tags((f"t{n}",)) == (f"t{n}",)
        assert interner.pairs({f"t{n}": n}) == {f"t{n}": n}
    assert len(interner._texts) <= 2
    assert len(interner._tuples) <= 2
    assert len(interner._dicts) <= 2


def test_instances_share_their_values():
    interner = Interner()
    one, two = (
        interner.instance(
            Instance(
                key=ServiceKey("d", "d", "s"),
                id=fresh("a"),
                address=fresh("127.0.0.1"),
                tags=(fresh("v1"),),
                zone=fresh("z1"),
                claim=fresh("c1"),
                metadata={fresh("k"): fresh("v")},
                weight=float("1.0"),
            )
        )
        for _ in range(2)
    )
    assert one == two
    for name in ("address", "tags", "zone", "claim", "metadata", "ports", "weight"):
        assert getattr(one, name) is getattr(two, name), name
