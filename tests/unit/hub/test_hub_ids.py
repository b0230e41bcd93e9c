"""New names: unguessable in production, repeatable in the simulation."""

from __future__ import annotations

import uuid

import pytest

from townhall.core import Ids
from townhall.hub.ids import RandomIds, SeededIds


@pytest.mark.parametrize("ids", [RandomIds(), SeededIds(1)])
def test_forms(ids: Ids) -> None:
    leases = {ids.lease_id() for _ in range(1_000)}
    assert len(leases) == 1_000
    assert all(0 < lease < 2**63 for lease in leases)
    assert len({ids.secret() for _ in range(100)}) == 100
    assert len(ids.secret()) >= 32
    assert uuid.UUID(ids.name()).version == 4


def test_seeds_repeat() -> None:
    first, second, other = SeededIds(5), SeededIds(5), SeededIds(6)
    assert [first.lease_id(), first.secret(), first.name()] == [second.lease_id(), second.secret(), second.name()]
    assert other.lease_id() != SeededIds(5).lease_id()
