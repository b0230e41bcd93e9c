"""Where the fields of a header block begin and end, found without decoding them (RFC 7541 §6).

Only blocks that neither read nor change a dynamic table can be cut: those mean the same at any time and on any
connection, and so does each of their fields. Everything else, malformed blocks too, is left to the full decoder: None.
"""

from __future__ import annotations

from typing import Final

__all__ = ["cut"]

_STATIC_MAX: Final = 61
"""The static table's last index (RFC 7541, appendix A)."""
_LONG: Final = 0x7F
"""A length that goes on in the next byte."""


def cut(block: bytes, *, tableless: bool) -> list[bytes] | None:
    """The fields' encodings in order. ``tableless``: the table has size 0, so that nothing can be put into it."""
    fields: list[bytes] = []
    at, size = 0, len(block)
    if tableless:
        while at < size and block[at] == 0x20:
            # A table size of 0, said once more.
            at += 1
    try:
        while at < size:
            start, first = at, block[at]
            at += 1
            if first & 0x80:
                if not 0 < first & 0x7F <= _STATIC_MAX:
                    return None
            else:
                at = _literal_end(block, at, first, tableless)
                if not at:
                    return None
            fields.append(block[start:at])
    except IndexError:
        return None
    return fields if at == size else None


def _literal_end(block: bytes, at: int, first: int, tableless: bool) -> int:
    """Where a literal ends whose first byte lies before ``at``; 0 for one that cannot be cut."""
    if first & 0x40:
        index = first & 0x3F
        if not tableless or index > _STATIC_MAX:
            return 0
    elif first & 0x20:
        return 0
    else:
        index = first & 0x0F
        if index == 0x0F:
            index += block[at]
            at += 1
            if index > _STATIC_MAX:
                return 0
    if not index:
        at = _string_end(block, at)
        if not at:
            return 0
    return _string_end(block, at)


def _string_end(block: bytes, at: int) -> int:
    length = block[at] & 0x7F
    at += 1
    if length == _LONG:
        more = block[at]
        at += 1
        length += more & 0x7F
        if more & 0x80:
            length += block[at] << 7
            if block[at] & 0x80:
                # More than 16 KiB: rare, and nothing to be fast about.
                return 0
            at += 1
    return at + length
