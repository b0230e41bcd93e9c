"""A message with a field of every kind, and bytes that Google's protobuf library gave for values of it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Annotated

from townhall.wire.protobuf import INT32, UINT32, UINT64, Message, OneOf


class Colour(enum.IntEnum):
    RED = 0
    GREEN = 1


class Sample(Message, frozen=True):
    data: Annotated[bytes, 1] = b""
    text: Annotated[str, 2] = ""
    flag: Annotated[bool, 3] = False
    number: Annotated[int, 4] = 0
    unsigned: Annotated[int, 5, UINT64] = 0
    small: Annotated[int, 6, INT32] = 0
    small_unsigned: Annotated[int, 7, UINT32] = 0
    colour: Annotated[int, 8, Colour] = 0
    child: Annotated[Sample | None, 9] = None
    children: Annotated[Sequence[Sample], 10] = ()
    numbers: Annotated[Sequence[int], 11] = ()
    texts: Annotated[Sequence[str], 12] = ()
    blobs: Annotated[Sequence[bytes], 13] = ()
    colours: Annotated[Sequence[int], 14, Colour] = ()
    one_number: Annotated[int | None, 15, OneOf("one")] = None
    one_data: Annotated[bytes | None, 16, OneOf("one")] = None
    one_child: Annotated[Sample | None, 17, OneOf("one")] = None
    far: Annotated[bytes, 640] = b""


PAIRS = [
    (Sample(), ""),
    (Sample(data=b"abc", text="grün", flag=True), "0a0361626312056772c3bc6e1801"),
    (Sample(number=-1, unsigned=(1 << 64) - 1), "20ffffffffffffffffff0128ffffffffffffffffff01"),
    (Sample(number=-(1 << 63), small=-2, small_unsigned=(1 << 32) - 1), "2080808080808080808001" "30feffffffffffffffff01" "38ffffffff0f"),
    (Sample(colour=Colour.GREEN, child=Sample(number=300)), "40014a0320ac02"),
    (Sample(colour=77, children=[Sample(), Sample(flag=True)]), "404d520052021801"),
    (Sample(numbers=[1, -1, 128], texts=["", "a"]), "5a0d01ffffffffffffffffff018001" "6200620161"),
    (Sample(blobs=[b"\x00", b""], colours=[1, 9]), "6a01006a0072020109"),
    (Sample(one_number=0, far=b"x"), "7800822801" "78"),
    (Sample(one_data=b""), "820100"),
    (Sample(one_child=Sample()), "8a0100"),
    (Sample(data=b"y" * 200), "0ac801" + "79" * 200),
]  # fmt: skip
