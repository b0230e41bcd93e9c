"""Filter expressions as functions: a tree and the fields that a face knows, into ``item -> bool``.

What an operator means depends on the kind of the field:

========  =====================================================================================================
text      ``==`` and ``!=`` exactly; ``< <= > >=`` when both sides are numbers, else false; ``in`` and ``contains``
          look for a part; ``matches`` searches; empty is ""
number    ``== != < <= > >=`` with a number
flag      ``==`` and ``!=`` with true or false
list      ``in`` and ``contains`` look for an element; ``matches`` searches every element; empty has none
map       ``in`` and ``contains`` look for a key; empty has none
========  =====================================================================================================

A missing map entry (the field's getter gives None) is not an error: ``==``, ``is not empty``, ``in``, ``contains``, the
orderings and ``matches`` are false, all others true, as with bexpr; bexpr's plain ``matches`` is true by a quirk,
which ``missing_matches`` asks for.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable
from typing import Any, NamedTuple, assert_never

from townhall.model.errors import InvalidField
from townhall.wire.filter_expression import And, Comparison, Expression, Not, Or, Selector, Value
from townhall.wire.linear_regex import Pattern

__all__ = ["Field", "Kind", "Predicate", "Resolve", "predicate"]


class Kind(enum.Enum):
    """What a field holds."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    LIST = "list"
    MAP = "map"


class Field(NamedTuple):
    """A field: its kind, and how to get it from an item. ``get`` returns None for a missing map entry."""

    kind: Kind
    get: Callable[[Any], Any]


Predicate = Callable[[Any], bool]
Resolve = Callable[[Selector], Field | None]
_Test = Callable[[Any], bool]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def predicate(
    expression: Expression, resolve: Resolve, *, field: str = "filter", missing_matches: bool = False
) -> Predicate:
    """A function that says whether an item passes.

    Raises InvalidField for a selector that ``resolve`` does not know and for an operator or a value that does not fit
    the field's kind. The function raises TooLarge when its patterns take too much work.
    """
    match expression:
        case Comparison():
            return _comparison(expression, resolve, field=field, missing_matches=missing_matches)
        case Not(part):
            inner = predicate(part, resolve, field=field, missing_matches=missing_matches)
            return lambda item: not inner(item)
        case And(parts):
            inners = [predicate(part, resolve, field=field, missing_matches=missing_matches) for part in parts]
            return lambda item: all(inner(item) for inner in inners)
        case Or(parts):
            inners = [predicate(part, resolve, field=field, missing_matches=missing_matches) for part in parts]
            return lambda item: any(inner(item) for inner in inners)
        case _:
            assert_never(expression)


def _comparison(comparison: Comparison, resolve: Resolve, *, field: str, missing_matches: bool) -> Predicate:
    known = resolve(comparison.selector)
    if known is None:
        raise InvalidField(
            field, f"selector {comparison.selector} at character {comparison.selector.at} does not exist"
        )
    test = _TESTS[known.kind](comparison, field)
    get = known.get
    negated = comparison.negated
    # bexpr: a missing entry is unequal, empty, and neither holds nor matches anything.
    missing = comparison.operator in ("!=", "empty") or (comparison.operator == "matches" and missing_matches)
    if comparison.operator == "matches" and negated:
        missing = False

    def passes(item: Any) -> bool:
        value = get(item)
        return (missing if value is None else test(value)) is not negated

    return passes


def _wrong(comparison: Comparison, kind: Kind, field: str) -> InvalidField:
    return InvalidField(
        field,
        f"operator {comparison.operator!r} at character {comparison.selector.at} does not fit "
        f"{comparison.selector}, which is a {kind.value}",
    )


def _number(value: Value, field: str) -> float:
    number = value.number
    if number is None:
        number = _as_number(value.text)
    if number is None:
        raise InvalidField(field, f"{value.text!r} at character {value.at} is not a number")
    return number


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(comparison: Comparison, field: str) -> _Test:
    wanted = comparison.value.text
    match comparison.operator:
        case "==":
            return lambda text: text == wanted
        case "!=":
            return lambda text: text != wanted
        case "in" | "contains":
            return lambda text: wanted in text
        case "empty":
            return lambda text: not text
        case "matches":
            return Pattern(wanted, field).search
        case _:
            order = _ORDER[comparison.operator]
            bound = _number(comparison.value, field)

            def ordered(text: str) -> bool:
                number = _as_number(text)
                return number is not None and order(number, bound)

            return ordered


def _numeric(comparison: Comparison, field: str) -> _Test:
    order = _ORDER.get(comparison.operator)
    if order is None:
        raise _wrong(comparison, Kind.NUMBER, field)
    bound = _number(comparison.value, field)
    return lambda number: order(number, bound)


def _flag(comparison: Comparison, field: str) -> _Test:
    if comparison.operator not in ("==", "!="):
        raise _wrong(comparison, Kind.FLAG, field)
    if comparison.value.text not in ("true", "false"):
        raise InvalidField(field, f"{comparison.value.text!r} at character {comparison.value.at} is not true or false")
    wanted = (comparison.value.text == "true") is (comparison.operator == "==")
    return lambda flag: flag is wanted


def _list(comparison: Comparison, field: str) -> _Test:
    wanted = comparison.value.text
    match comparison.operator:
        case "in" | "contains":
            return lambda elements: wanted in elements
        case "empty":
            return lambda elements: not elements
        case "matches":
            search = Pattern(wanted, field).search
            return lambda elements: any(search(element) for element in elements)
        case _:
            raise _wrong(comparison, Kind.LIST, field)


def _map(comparison: Comparison, field: str) -> _Test:
    wanted = comparison.value.text
    match comparison.operator:
        case "in" | "contains":
            return lambda entries: wanted in entries
        case "empty":
            return lambda entries: not entries
        case _:
            raise _wrong(comparison, Kind.MAP, field)


_TESTS: dict[Kind, Callable[[Comparison, str], _Test]] = {
    Kind.TEXT: _text, Kind.NUMBER: _numeric, Kind.FLAG: _flag, Kind.LIST: _list, Kind.MAP: _map,
}  # fmt: skip
