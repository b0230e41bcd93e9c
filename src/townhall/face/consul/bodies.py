"""JSON bodies as Go decodes them: names in any case, with or without underscores, ``null`` as nothing, wrong types refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from townhall.face.consul.durations import parse_duration
from townhall.face.consul.errors import bad

__all__ = ["Body", "names", "plain"]

_KINDS: Mapping[type, str] = {
    dict: "object",
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "bool",
}


def names(*known: str) -> frozenset[str]:
    """The fields that an object may have, in the form in which they are compared."""
    return frozenset(plain(name) for name in known)


@lru_cache(4_096)
def plain(name: str) -> str:
    """A field's name however it is spelled: without capitals and underscores."""
    # Remembered, because a registration asks for some forty fields and has a dozen.
    return name.replace("_", "").lower()


class Body:
    """One JSON object. Every getter returns a default for what is missing or null, and refuses the wrong type."""

    __slots__ = ("_fields", "_given", "_what")

    def __init__(self, value: Any, known: frozenset[str] | None, what: str = "Request decode failed") -> None:
        """``known`` None lets any field pass. Raises ``Misuse`` for an unknown field, naming it, and for a non-object."""
        self._what = what
        if value is None:
            value = {}
        elif type(value) is not dict:
            raise bad(f"{what}: json: cannot unmarshal {_kind(value)} into an object")
        self._given = value
        self._fields = fields = {plain(name): content for name, content in value.items()}
        if known is not None and not fields.keys() <= known:
            unknown = next(name for name in value if plain(name) not in known)
            raise bad(f'{what}: json: unknown field "{unknown[:128]}"')

    def _get(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self._fields.get(plain(name))
        if value is None:
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            wanted = kind if isinstance(kind, type) else kind[0]
            raise self.wrong(self._spelled(name), value, "int" if wanted is int else _KINDS[wanted])
        return value

    def _spelled(self, name: str) -> str:
        """How the field is written in the body; the last one counts."""
        wanted = plain(name)
        return next((given for given in reversed(self._given) if plain(given) == wanted), name)

    def wrong(self, name: str, value: object, wanted: str) -> Exception:
        """The refusal of a value of the wrong type."""
        return bad(f"{self._what}: json: cannot unmarshal {_kind(value)} into field {name} of type {wanted}")

    def without(self, name: str) -> Body:
        """The same object as if this field were missing."""
        rest = Body(None, None, self._what)
        rest._fields = {field: content for field, content in self._fields.items() if field != plain(name)}
        return rest

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._fields.get(plain(name)) is not None

    def any_of(self, fields: frozenset[str]) -> bool:
        """Whether one of these fields (made by ``names``) is there, be it null."""
        return not fields.isdisjoint(self._fields)

    def raw(self, name: str) -> Any:
        """The value as decoded, or None."""
        return self._fields.get(plain(name))

    def text(self, name: str, default: str = "") -> str:
        """A string."""
        value = self._fields.get(plain(name))
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(self._spelled(name), value, "string")
        return value

    def integer(self, name: str, default: int = 0) -> int:
        """A whole number; Go refuses ``1.0`` as well."""
        value = self._get(name, int, default)
        assert isinstance(value, int)
        return value

    def flag(self, name: str) -> bool:
        """A boolean; missing is false."""
        return bool(self._get(name, bool, False))

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        values = self._get(name, list, [])
        for value in values:
            if not isinstance(value, str):
                raise self.wrong(name, value, "string")
        return list(values)

    def mapping(self, name: str) -> dict[str, str]:
        """An object with strings as its values."""
        values = self._get(name, dict, {})
        for value in values.values():
            if not isinstance(value, str):
                raise self.wrong(name, value, "string")
        return dict(values)

    def child(self, name: str, known: frozenset[str] | None) -> Body | None:
        """An object within; None when it is missing."""
        value = self._get(name, dict, None)
        return None if value is None else Body(value, known, self._what)

    def children(self, name: str, known: frozenset[str] | None) -> Iterable[Body]:
        """The objects of a list within."""
        return [Body(value, known, self._what) for value in self._get(name, list, []) if value is not None]

    def duration_ms(self, name: str) -> int:
        """A duration: Go's notation, or a number of nanoseconds. Milliseconds, at least 1 for anything above 0."""
        value = self._fields.get(plain(name))
        if value is None or value == "":
            return 0
        if isinstance(value, str):
            try:
                return parse_duration(value)
            except ValueError as error:
                raise bad(f"{self._what}: {error}") from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(self._spelled(name), value, "duration")
        return max(int(value / 1_000_000), 1) if value > 0 else 0


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "null")
