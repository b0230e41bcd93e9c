"""Method names from descriptor sets, whole, damaged, and as other tools write them."""

from __future__ import annotations

import contextlib

import pytest
from descriptor_sets import descriptor_set, field, file, service, varint
from hypothesis import given
from hypothesis import strategies as st

from townhall.client.descriptors import method_names
from townhall.model.errors import Malformed


def test_methods_have_their_package_and_service() -> None:
    assert method_names(descriptor_set()) == ["user.v1.Users/Get", "user.v1.Users/Put", "user.v1.Admin/Ban"]
    assert method_names(field(1, file("", service("Plain", "Do")))) == ["Plain/Do"]
    assert method_names(b"") == []
    assert method_names(field(1, file("p"))) == []


def test_other_fields_of_any_kind_are_skipped() -> None:
    strange = varint(9 << 3 | 1) + b"8 bytes." + varint(9 << 3 | 5) + b"four" + field(300, 2**63) + field(7, "x")
    assert method_names(strange + descriptor_set() + strange) == method_names(descriptor_set())


def test_a_set_that_is_cut_off_is_malformed_or_shorter() -> None:
    whole = descriptor_set()
    for size in range(len(whole)):
        with contextlib.suppress(Malformed):
            assert method_names(whole[:size]) in ([], method_names(whole))


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0b\x0c",
        b"\x02\x00",
        b"\xff" * 11,
        b"\x09abc",
        field(1, field(6, field(1, b"\xff") + field(2, field(1, "m")))),
    ],
)
def test_what_is_none_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        method_names(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        method_names(data)


def test_the_descriptors_of_the_protobuf_package_are_read() -> None:
    protobuf = pytest.importorskip("google.protobuf.descriptor_pb2", reason="the protobuf package is not installed")
    made = protobuf.FileDescriptorSet()
    one = made.file.add(name="a.proto", package="a.b")
    one.service.add(name="S").method.add(name="M", input_type=".x", output_type=".y", server_streaming=True)
    assert method_names(made.SerializeToString()) == ["a.b.S/M"]
