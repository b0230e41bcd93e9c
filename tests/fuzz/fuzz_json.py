"""Coverage-guided fuzzing of the JSON edge: bodies, session lines, transactions and filter expressions (atheris).

Run with ``make fuzz``, or ``python tests/fuzz/fuzz_json.py [libFuzzer options] [corpus directory]``. What it holds
against every input, in one sentence: decoding either raises ``Misuse`` or gives a value whose text has no key twice,
nests no deeper than the limit, and decodes to the same value again.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["townhall"]):
    import msgspec

    from townhall.face.native.key_shapes import TransactionBody, transaction_of
    from townhall.face.native.lease_shapes import RenewBody
    from townhall.face.native.registration import command_of
    from townhall.face.native.selection import resolve
    from townhall.face.native.session import SessionLine
    from townhall.face.native.shapes import PatchBody, RegisterBody
    from townhall.model import limits
    from townhall.model.errors import Misuse
    from townhall.model.instance import Instance, ServiceKey
    from townhall.wire.filter_expression import parse
    from townhall.wire.filter_predicate import predicate
    from townhall.wire.strict_json import Strict

DECODERS: list[Strict[Any]] = [
    Strict(RegisterBody), Strict(PatchBody), Strict(RenewBody, lax=True), Strict(SessionLine, lax=True),
    Strict(TransactionBody, recursive=True),
]  # fmt: skip
INSTANCE = Instance(key=ServiceKey("n", "g", "s"), id="i", address="127.0.0.1", tags=("a",), metadata={"k": "aab"})


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    assert len(dict(pairs)) == len(pairs), "a duplicate key was let through"
    return dict(pairs)


def check_body(decoder: Strict[Any], body: bytes) -> None:
    try:
        value = decoder.decode(body)
    except Misuse:
        return
    plain = json.loads(body.decode(), object_pairs_hook=distinct)
    assert depth_of(plain) <= limits.JSON_DEPTH_MAX, "nesting beyond the limit was let through"
    assert decoder.decode(msgspec.json.encode(value)) == value, "it does not decode to itself"
    try:
        if isinstance(value, RegisterBody):
            command_of(value, "")
        elif isinstance(value, TransactionBody):
            transaction_of(value)
    except Misuse:
        pass


def check_filter(text: str) -> None:
    with contextlib.suppress(Misuse):
        predicate(parse(text), resolve)(INSTANCE)


WORDS = [
    *b'{}[]:,"\\ 019.-', b'":', b'","', b'{"', b'"}', b"\\u003a", b"null", b"true", b"1e9", b"1001", b"\xc3\xa9", b"\xff",
    *(f'"{name}":'.encode() for kind in (RegisterBody, PatchBody, SessionLine, TransactionBody) for name in kind.__struct_fields__),
    b'"leases":', b'"key":"k"', b'"put":{', b'"get":{', b'"txn":{', b'"target":"mod"', b'"127.0.0.1"', b'"web"', b'"value":"v"',
    b" and ", b" or ", b"not ", b" in ", b" contains ", b" matches ", b" is empty", b" == ", b" < ", b"tags", b"metadata.k", b"port",
    b"(a|b)*", b"^$", b"[a-c]+",
]  # fmt: skip
"""The decoder is C code that coverage cannot look into, so half of the inputs are made of words that get further."""


def worded(data: bytes) -> bytes:
    words = (WORDS[byte % len(WORDS)] for byte in data)
    return b"".join(bytes((word,)) if isinstance(word, int) else word for word in words)


def one_input(data: bytes) -> None:
    if not data:
        return
    choice, rest = data[0] % (len(DECODERS) + 1), data[1:]
    if data[0] & 0x80:
        rest = worded(rest)
    if choice < len(DECODERS):
        check_body(DECODERS[choice], rest)
    else:
        check_filter(rest.decode("utf-8", "replace"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
