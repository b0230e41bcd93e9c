"""Twin of ``shapes``, ``lease_shapes`` and ``access_shapes``."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from townhall.face.native import access_shapes, key_shapes, lease_shapes, shapes
from townhall.face.native.shapes import Body, PatchBody, Shown

STRUCTS = [
    member
    for module in (shapes, lease_shapes, access_shapes, key_shapes)
    for _, member in inspect.getmembers(module, inspect.isclass)
    if issubclass(member, msgspec.Struct)
]


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_structs_are_frozen_and_described(struct: type[msgspec.Struct]) -> None:
    config = struct.__struct_config__
    assert config.frozen
    assert struct.__doc__
    if issubclass(struct, Body):
        assert config.forbid_unknown_fields
        assert config.omit_defaults
    elif issubclass(struct, Shown):
        assert not config.forbid_unknown_fields


def test_a_patch_tells_absent_from_null() -> None:
    assert msgspec.json.decode(b"{}", type=PatchBody).zone is msgspec.UNSET
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"zone":null}', type=PatchBody)
