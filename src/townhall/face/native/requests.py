"""Query parameters: each is a value that knows how to read itself from a request and how OpenAPI describes it.

A route lists the parameters it takes; anything else in the query is refused by name. So the document and the
implementation come from one table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from townhall.face import Request
from townhall.model import limits, names
from townhall.model.errors import InvalidField, UnknownField
from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE, ServiceKey

__all__ = [
    "AFTER",
    "GROUP",
    "NAMESPACE",
    "WAIT",
    "Choice",
    "Duration",
    "Flag",
    "Parameter",
    "Text",
    "Texts",
    "Whole",
    "check_known",
    "duration_ms",
    "lease_id",
    "service_key",
]  # fmt: skip

_DURATION = re.compile(r"([0-9]{1,13})(?:(\.[0-9]{1,3}))?(ms|s|m|h)?", re.ASCII)
_UNIT_MS = {"ms": 1, None: 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
_TRUE = frozenset({"", "1", "true", "yes"})
_FALSE = frozenset({"0", "false", "no"})
_NUMBER_MAX = 2**63 - 1


class Parameter:
    """A query parameter that may be given once."""

    explode: ClassVar[bool] = False

    def __init__(self, name: str, description: str, *, required: bool = False) -> None:
        self.name = name
        self.description = description
        self.required = required

    def schema(self) -> dict[str, Any]:
        """Its JSON Schema, as OpenAPI wants it."""
        return {"type": "string"}

    def raw(self, request: Request) -> str | None:
        """The text given, or None. Raises InvalidField when it was given more than once, or not and is required."""
        values = request.query.get(self.name)
        if not values:
            if self.required:
                raise InvalidField(self.name, "is required")
            return None
        if len(values) > 1:
            raise InvalidField(self.name, "is given more than once")
        return values[0]


class Text(Parameter):
    """A text."""

    def __init__(
        self,
        name: str,
        description: str,
        *,
        default: str = "",
        size_max: int = limits.KEY_SIZE_MAX,
        required: bool = False,
    ) -> None:
        super().__init__(name, description, required=required)
        self.default = default
        self.size_max = size_max

    def schema(self) -> dict[str, Any]:
        """A string of bounded length."""
        return {"type": "string", "maxLength": self.size_max}

    def read(self, request: Request) -> str:
        """The text. Raises InvalidField when it is too long."""
        text = self.raw(request)
        if text is None:
            return self.default
        if len(text) > self.size_max:
            raise InvalidField(self.name, f"longer than {self.size_max} characters")
        return text


class Texts(Parameter):
    """A text that may be given several times."""

    explode = True

    def __init__(self, name: str, description: str, *, count_max: int, required: bool = False) -> None:
        super().__init__(name, description, required=required)
        self.count_max = count_max

    def schema(self) -> dict[str, Any]:
        """A list of strings."""
        least = {"minItems": 1} if self.required else {}
        return {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": self.count_max, **least}

    def read(self, request: Request) -> list[str]:
        """All values in order. Raises InvalidField when there are too many, none though required, or an empty one."""
        values = list(request.query.get(self.name, ()))
        if len(values) > self.count_max:
            raise InvalidField(self.name, f"{len(values)} values, at most {self.count_max}")
        if self.required and not values:
            raise InvalidField(self.name, "is required")
        if "" in values:
            raise InvalidField(self.name, "must not be empty")
        return values


class Flag(Parameter):
    """Yes or no: ``1 true yes`` or nothing after the name, and ``0 false no``."""

    def schema(self) -> dict[str, Any]:
        """The words it takes."""
        return {"type": "string", "enum": sorted(_TRUE | _FALSE)}

    def read(self, request: Request) -> bool:
        """Whether it is set. Raises InvalidField for other words."""
        text = self.raw(request)
        if text is None or text in _FALSE:
            return False
        if text in _TRUE:
            return True
        raise InvalidField(self.name, f"{text[:64]!r} is neither 1 nor 0")


class Whole(Parameter):
    """A whole number from 0 (or ``least``) up."""

    def __init__(
        self, name: str, description: str, *, default: int = 0, least: int = 0, most: int = _NUMBER_MAX
    ) -> None:
        super().__init__(name, description)
        self.default = default
        self.least = least
        self.most = most

    def schema(self) -> dict[str, Any]:
        """An integer with its bounds."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def read(self, request: Request) -> int:
        """The number. Raises InvalidField when it is none or out of bounds."""
        number = self.given(request)
        return self.default if number is None else number

    def given(self, request: Request) -> int | None:
        """The number, or None when it was not given."""
        text = self.raw(request)
        return None if text is None else whole(text, self.name, least=self.least, most=self.most)


class Duration(Parameter):
    """A time span: ``10s``, ``500ms``, ``5m``, or plain milliseconds."""

    def __init__(self, name: str, description: str, *, most_ms: int, default_ms: int = 0) -> None:
        super().__init__(name, description)
        self.most_ms = most_ms
        self.default_ms = default_ms

    def schema(self) -> dict[str, Any]:
        """The text form."""
        return {"type": "string", "pattern": r"^[0-9]{1,13}(\.[0-9]{1,3})?(ms|s|m|h)?$", "examples": ["10s", "500ms"]}

    def read(self, request: Request) -> int:
        """Milliseconds, at most ``most_ms``. Raises InvalidField for another form."""
        text = self.raw(request)
        return self.default_ms if text is None else min(duration_ms(text, self.name), self.most_ms)


class Choice(Parameter):
    """One of a few words; the first is the default."""

    def __init__(self, name: str, description: str, words: tuple[str, ...]) -> None:
        super().__init__(name, description)
        self.words = words

    def schema(self) -> dict[str, Any]:
        """The words."""
        return {"type": "string", "enum": list(self.words)}

    def read(self, request: Request) -> str:
        """The word. Raises InvalidField for another."""
        text = self.raw(request)
        if text is None:
            return self.words[0]
        if text not in self.words:
            raise InvalidField(self.name, f"{text[:64]!r} is not one of {', '.join(filter(None, self.words))}")
        return text


NAMESPACE = Text(
    "namespace", "Namespace of the service.", default=DEFAULT_NAMESPACE, size_max=limits.NAMESPACE_SIZE_MAX
)
GROUP = Text("group", "Group of the service.", default=DEFAULT_GROUP, size_max=limits.NAMESPACE_SIZE_MAX)
WAIT = Duration("wait", "Wait at most this long for something newer than `after`.", most_ms=limits.WAIT_MAX_MS)
AFTER = Whole("after", "Answer only when the revision is above this one, or at the deadline.")


def check_known(query: Mapping[str, object], known: frozenset[str]) -> None:
    """Refuse a query that holds anything else. Raises UnknownField with the parameter's name."""
    for name in query:
        if name not in known:
            advice = f"this path takes {', '.join(sorted(known))}" if known else "this path takes no parameters"
            raise UnknownField(name[:64], advice=advice)


def duration_ms(text: str, field: str) -> int:
    """Milliseconds of a duration such as ``1.5s``. Raises InvalidField."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise InvalidField(field, f"{text[:64]!r} is not a duration", advice="write 10s, 500ms, 5m or milliseconds")
    return int(float(match[1] + (match[2] or "")) * _UNIT_MS[match[3]])


def whole(text: str, field: str, *, least: int = 0, most: int = _NUMBER_MAX) -> int:
    """A whole number in decimal digits. Raises InvalidField."""
    if not _WHOLE.fullmatch(text):
        raise InvalidField(field, f"{text[:64]!r} is not a whole number")
    number = int(text)
    if not least <= number <= most:
        raise InvalidField(field, f"{number} is not between {least} and {most}")
    return number


def lease_id(value: str | int, field: str = "lease") -> int:
    """A lease id, given as decimal text or as a number. Raises InvalidField."""
    if isinstance(value, str):
        return whole(value, field, least=1)
    if not 1 <= value <= _NUMBER_MAX:
        raise InvalidField(field, f"{value} is not between 1 and {_NUMBER_MAX}")
    return value


def service_key(request: Request) -> ServiceKey:
    """The service that a path and its ``namespace=`` and ``group=`` name. Raises InvalidField."""
    name = names.service(request.segments["service"])
    if not request.query:
        return ServiceKey(DEFAULT_NAMESPACE, DEFAULT_GROUP, name)
    return ServiceKey(names.namespace(NAMESPACE.read(request)), names.namespace(GROUP.read(request), "group"), name)
