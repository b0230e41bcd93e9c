"""Reads a table of a file field by field: each has a kind, and what nobody has asked for is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Final, TypeVar

from townhall.model.durations import duration_ms
from townhall.model.errors import InvalidField

__all__ = ["Fields"]

_KINDS: Final = {str: "a text", bool: "true or false", int: "a whole number", dict: "a table", list: "a list"}
_T = TypeVar("_T")


class Fields:
    """The fields of one table; ``where`` is its path in the file. All readers raise InvalidField."""

    def __init__(self, table: object, where: str) -> None:
        if not isinstance(table, dict):
            raise InvalidField(where or "file", "must be a table of fields")
        self._table: dict[str, object] = table
        self._asked: set[str] = set()
        self.where = where

    def __contains__(self, name: str) -> bool:
        self._asked.add(name)
        return self._table.get(name) is not None

    def path(self, name: str) -> str:
        """Where a field of this table stands in the file."""
        return f"{self.where}.{name}" if self.where else name

    def text(self, name: str, default: str = "") -> str:
        """A text."""
        return self._of(name, str, default)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        return self._of(name, bool, default)

    def whole(self, name: str, default: int = 0) -> int:
        """A whole number from 0 on."""
        value = self._of(name, int, default)
        if isinstance(value, bool) or value < 0:
            raise InvalidField(self.path(name), "must be a whole number from 0 on")
        return value

    def number(self, name: str, default: float) -> float:
        """A number."""
        self._asked.add(name)
        value = self._table.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidField(self.path(name), "must be a number")
        return float(value)

    def duration(self, name: str, default_ms: int = 0) -> int:
        """Milliseconds of a duration."""
        text = self._of(name, str, "")
        if not text:
            return default_ms
        try:
            return duration_ms(text)
        except ValueError as error:
            raise InvalidField(self.path(name), str(error)) from error

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self._of(name, list, [])
        if not all(isinstance(value, str) for value in values):
            raise InvalidField(self.path(name), "must be a list of texts")
        return tuple(values)

    def pairs(self, name: str) -> dict[str, str]:
        """A table of texts; numbers and truth values are taken as they are written."""
        found = {}
        for key, value in self._of(name, dict, {}).items():
            if isinstance(value, bool):
                found[key] = str(value).lower()
            elif isinstance(value, str | int | float):
                found[key] = str(value)
            else:
                raise InvalidField(self.path(f"{name}.{key}"), "must be a text")
        return found

    def numbers(self, name: str) -> dict[str, int]:
        """A table of whole numbers."""
        values = self._of(name, dict, {})
        for key, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise InvalidField(self.path(f"{name}.{key}"), "must be a whole number")
        return values

    def table(self, name: str) -> Fields | None:
        """A table below this one; None without it."""
        return Fields(self._table[name], self.path(name)) if name in self else None

    def tables(self, name: str) -> list[Fields]:
        """A list of tables."""
        return [Fields(value, self.path(f"{name}[{i}]")) for i, value in enumerate(self._of(name, list, []))]

    def raw(self, name: str) -> object:
        """The value as it is; None without it."""
        return self._table[name] if name in self else None

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Known fields that have no meaning here, each with what to do instead. Empty ones are as good as absent."""
        for name, reason in reasons.items():
            if name in self and self._table[name] not in ("", [], {}, False, 0):
                raise InvalidField(self.path(name), reason)

    def done(self, known: Sequence[str] = ()) -> None:
        """What has not been asked for is unknown."""
        for name in self._table:
            if name not in self._asked:
                near = get_close_matches(name, [*self._asked, *known], 1)
                raise InvalidField(self.path(name), "no such field", advice=f"did you mean {near[0]}?" if near else "")

    def _of(self, name: str, kind: type[_T], default: _T) -> _T:
        self._asked.add(name)
        value = self._table.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InvalidField(self.path(name), f"must be {_KINDS[kind]}")
        return value
