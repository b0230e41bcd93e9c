r"""Domain names as their uncompressed wire form (RFC 1035 §3.1): length-prefixed labels, ended by the empty one.

So a name is ``bytes`` such as ``b"\x03web\x06consul\x00"``: suffixes are slices, comparing without regard to case is
``.lower()`` (a length is at most 63 and never a letter), and nothing has to be escaped but for people.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from townhall.model.errors import Malformed

__all__ = ["LABEL_SIZE_MAX", "NAME_SIZE_MAX", "ROOT", "join", "labels", "name_of", "read_name", "text_of"]

LABEL_SIZE_MAX: Final = 63
"""RFC 1035 §2.3.4; the two upper bits of a length mean something else."""
NAME_SIZE_MAX: Final = 255
"""RFC 1035 §2.3.4, with all lengths and the end."""
ROOT: Final = b"\0"

_HEADER_SIZE: Final = 12
_POINTER: Final = 0xC0
_SPECIAL: Final = frozenset(b'."\\();@$')


def read_name(data: bytes, offset: int) -> tuple[bytes, int]:
    """The name at an offset, decompressed, and the offset behind it. Raises Malformed.

    A pointer must lead to before the part it stands in, so that no chain of pointers is endless.
    """
    out = bytearray()
    end = 0
    earliest = offset
    size = len(data)
    while True:
        if offset >= size:
            raise Malformed("a name runs over the end of the message")
        length = data[offset]
        if length == 0:
            out.append(0)
            return bytes(out), end or offset + 1
        if length <= LABEL_SIZE_MAX:
            following = offset + 1 + length
            if following > size:
                raise Malformed("a label runs over the end of the message")
            out += data[offset:following]
            if len(out) >= NAME_SIZE_MAX:
                raise Malformed(f"a name is longer than {NAME_SIZE_MAX} bytes")
            offset = following
            continue
        if length < _POINTER:
            # RFC 6891 §5: the extended label type 01 is not used any more; 10 never was.
            raise Malformed("a label of an unknown type")
        if offset + 2 > size:
            raise Malformed("a pointer runs over the end of the message")
        end = end or offset + 2
        target = (length & 0x3F) << 8 | data[offset + 1]
        if not _HEADER_SIZE <= target < earliest:
            raise Malformed("a compression pointer does not lead back")
        earliest = offset = target


def labels(name: bytes) -> list[bytes]:
    """The labels of a name, without the empty one at its end."""
    found = []
    offset = 0
    while length := name[offset]:
        found.append(name[offset + 1 : offset + 1 + length])
        offset += 1 + length
    return found


def join(parts: Iterable[bytes], suffix: bytes = ROOT) -> bytes:
    """A name from labels and a suffix that is a name. Raises Malformed when that is no possible name."""
    out = bytearray()
    for part in parts:
        if not 0 < len(part) <= LABEL_SIZE_MAX:
            raise Malformed(f"a label of {len(part)} bytes")
        out.append(len(part))
        out += part
    out += suffix
    if len(out) > NAME_SIZE_MAX:
        raise Malformed(f"a name is longer than {NAME_SIZE_MAX} bytes")
    return bytes(out)


def name_of(text: str) -> bytes:
    """A name from plain dotted text, with or without the last dot; there is no escape. Raises Malformed."""
    stem = text.removesuffix(".")
    return join(part.encode("utf-8", "surrogateescape") for part in stem.split(".")) if stem else ROOT


def text_of(name: bytes) -> str:
    """For people and tests: dotted, with a dot at the end, escaped as in a zone file (RFC 1035 §5.1)."""
    return "".join(_escape(part) + "." for part in labels(name)) or "."


def _escape(label: bytes) -> str:
    return "".join(
        f"\\{chr(byte)}" if byte in _SPECIAL else chr(byte) if 0x21 <= byte <= 0x7E else f"\\{byte:03d}"
        for byte in label
    )
