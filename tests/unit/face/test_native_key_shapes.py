from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.face.native.key_shapes import (
    NestedBody,
    OperationBody,
    event_view,
    key_bytes,
    key_text,
    key_view,
    prefix_end,
    transaction_of,
)
from townhall.model import limits
from townhall.model.errors import InvalidField, TooLarge
from townhall.model.keys import KeyEvent, KeyValue


def test_key_bytes() -> None:
    assert key_bytes("é/x") == "é/x".encode()
    assert key_bytes("a\udcff") == b"a\xff"
    with pytest.raises(InvalidField):
        key_bytes("")
    with pytest.raises(InvalidField):
        key_bytes("\ud800")
    with pytest.raises(TooLarge):
        key_bytes("é" * (limits.KEY_SIZE_MAX // 2 + 1))


@given(st.binary(min_size=1, max_size=6), st.binary(max_size=3))
def test_prefix_end_bounds_exactly_the_prefix(prefix: bytes, rest: bytes) -> None:
    end = prefix_end(prefix)
    inside = prefix + rest
    assert inside >= prefix
    if end == b"\0":
        assert set(prefix) == {0xFF}
    else:
        assert inside < end
        assert not end.startswith(prefix)


def test_views() -> None:
    kv = KeyValue(b"k", b"\xff", 2, 3, 2, lease=7)
    shown = key_view(kv)
    assert (shown.value, shown.value_base64, shown.lease, shown.key_base64) == (None, "/w==", "7", "")
    assert key_view(kv, keys_only=True).value_base64 == ""
    gone = event_view(KeyEvent(5, b"k", None, kv))
    assert (gone.revision, gone.previous_revision, gone.value_base64) == (5, 3, "")
    assert key_text(b"a\xff") == "a\\xff"


def test_nesting_is_named_in_errors() -> None:
    with pytest.raises(InvalidField) as refused:
        transaction_of(NestedBody(success=(OperationBody(txn=NestedBody(failure=(OperationBody(),))),)))
    assert refused.value.fields["field"] == "success[0].txn.failure[0]"
