"""Values of a space's guard: small, immutable, with etcd's numbers."""

from __future__ import annotations

import msgspec
import pytest

from townhall.model.guard import ROOT, Alarm, Grants, KeyRole, Permission, User


def test_numbers_are_those_of_the_protocol() -> None:
    assert (Grants.READ, Grants.WRITE, Grants.BOTH) == (0, 1, 2)
    assert (Alarm.NO_SPACE, Alarm.CORRUPT) == (1, 2)
    assert ROOT == "root"


@pytest.mark.parametrize(
    "value", [User("amy", b"h", ("r",), 7), KeyRole("r", (Permission(b"a", b"\0", Grants.BOTH),)), KeyRole("empty")]
)
def test_there_and_back(value: User | KeyRole) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value)) == value
    with pytest.raises(AttributeError):
        value.name = "other"  # type: ignore[misc]
