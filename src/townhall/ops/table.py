"""Tables for people: columns as wide as their widest cell, no lines, the last column not padded."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

__all__ = ["ago", "table", "width"]

_GAP = "  "


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lines with a header in capitals; numbers are set to the right. Control characters are shown as '?'."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [bool(rows) and all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(headers))]
    titles = [header.upper() for header in headers]
    widths = [max(width(line[i]) for line in (titles, *cells)) for i in range(len(headers))]
    return "\n".join(_line(line, widths, right) for line in (titles, *cells))


def ago(then_ms: int, *, now_ms: int) -> str:
    """How long ago, in the largest unit that fits: ``0s``, ``59s``, ``3m``, ``2h``, ``5d``; '-' for 0."""
    if not then_ms:
        return "-"
    seconds = max(0, now_ms - then_ms) // 1_000
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def width(text: str) -> int:
    """Columns that a terminal needs for the text: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cell(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list() | tuple():
            return _cell(",".join(str(item) for item in value))
        case dict():
            return _cell(",".join(f"{key}={content}" for key, content in value.items()))
        case _:
            return "".join(c if c.isprintable() else "?" for c in str(value))


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = []
    for cell, columns, to_right in zip(cells, widths, right, strict=True):
        padding = " " * (columns - width(cell))
        parts.append(padding + cell if to_right else cell + padding)
    return _GAP.join(parts).rstrip()
