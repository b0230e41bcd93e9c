from __future__ import annotations

import pytest

from townhall.agent.fields import Fields
from townhall.model.errors import InvalidField


def test_a_table_below_another_knows_where_it_is() -> None:
    below = Fields({"a": {"b": [{"c": 1}]}}, "").table("a")
    assert below is not None
    (deep,) = below.tables("b")
    assert deep.path("c") == "a.b[0].c"
    with pytest.raises(InvalidField, match=r"a\.b\[0\]\.c: no such field"):
        deep.done()
