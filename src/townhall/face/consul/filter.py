"""``?filter=``: go-bexpr's language over the rows of an answer, with its selectors and its words for what is wrong.

The expression is read by ``wire.filter_expression`` (a superset of bexpr's grammar with the same precedence) and
evaluated over a row as the client would see it. Which selectors exist is a table per endpoint, as bexpr takes it from
Go's structs: a field, or one of these kinds; a nested table is a struct, ``Each`` a list of structs (any element may
fit), ``MapOf`` a map whose values are structs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from townhall.face.consul.errors import bad
from townhall.model.errors import InvalidField, TooLarge
from townhall.wire.filter_expression import And, Comparison, Expression, Not, Or, Selector, parse
from townhall.wire.linear_regex import Pattern

__all__ = [
    "AGENT_SERVICE", "CATALOG_SERVICE", "CHECK", "HEALTH", "NODE", "NODE_SERVICE", "Each", "MapOf", "Row", "decode", "keep",
    "predicate",
]  # fmt: skip

_FAILED: Final = "Failed to create boolean expression evaluator: "
_MISSING: Final = object()
Row = Callable[[Any], bool]
decode: Callable[[bytes], Any] = msgspec.json.decode


class Each(NamedTuple):
    """A list of structs."""

    fields: Mapping[str, Any]


class MapOf(NamedTuple):
    """A map whose values are structs."""

    fields: Mapping[str, Any]


_TEXT, _NUMBER, _FLAG, _LIST, _MAP = "text", "number", "flag", "list", "map"
_ADDRESS: Final = MapOf({"Address": _TEXT, "Port": _NUMBER})
_WEIGHTS: Final = {"Passing": _NUMBER, "Warning": _NUMBER}
_PROXY: Final = {
    "Mode": _TEXT, "DestinationServiceName": _TEXT, "DestinationServiceID": _TEXT, "LocalServiceAddress": _TEXT,
    "LocalServicePort": _NUMBER, "MeshGateway": {"Mode": _TEXT},
}  # fmt: skip
_CONNECT: Final = {"Native": _FLAG}
AGENT_SERVICE: Final = {
    "Kind": _TEXT, "ID": _TEXT, "Service": _TEXT, "Tags": _LIST, "Meta": _MAP, "Port": _NUMBER, "Address": _TEXT,
    "SocketPath": _TEXT, "TaggedAddresses": _ADDRESS, "Weights": _WEIGHTS, "EnableTagOverride": _FLAG,
    "Proxy": _PROXY, "Connect": _CONNECT, "Datacenter": _TEXT, "CreateIndex": _NUMBER, "ModifyIndex": _NUMBER,
}  # fmt: skip
NODE_SERVICE: Final = {**AGENT_SERVICE, "PeerName": _TEXT}
NODE: Final = {
    "ID": _TEXT, "Node": _TEXT, "Address": _TEXT, "Datacenter": _TEXT, "TaggedAddresses": _MAP, "Meta": _MAP,
    "CreateIndex": _NUMBER, "ModifyIndex": _NUMBER, "PeerName": _TEXT,
}  # fmt: skip
CHECK: Final = {
    "Node": _TEXT, "CheckID": _TEXT, "Name": _TEXT, "Status": _TEXT, "Notes": _TEXT, "Output": _TEXT,
    "ServiceID": _TEXT, "ServiceName": _TEXT, "ServiceTags": _LIST, "Type": _TEXT, "Interval": _TEXT, "Timeout": _TEXT,
    "ExposedPort": _NUMBER, "PeerName": _TEXT, "CreateIndex": _NUMBER, "ModifyIndex": _NUMBER,
    "Definition": {
        "HTTP": _TEXT, "TLSServerName": _TEXT, "TLSSkipVerify": _FLAG, "Method": _TEXT, "Body": _TEXT, "TCP": _TEXT,
        "UDP": _TEXT, "GRPC": _TEXT, "GRPCUseTLS": _FLAG, "Interval": _TEXT, "Timeout": _TEXT,
    },
}  # fmt: skip
HEALTH: Final = {"Node": NODE, "Service": NODE_SERVICE, "Checks": Each(CHECK)}
CATALOG_SERVICE: Final = {
    "ID": _TEXT, "Node": _TEXT, "Address": _TEXT, "Datacenter": _TEXT, "TaggedAddresses": _MAP, "NodeMeta": _MAP,
    "ServiceKind": _TEXT, "ServiceID": _TEXT, "ServiceName": _TEXT, "ServiceTags": _LIST, "ServiceAddress": _TEXT,
    "ServiceTaggedAddresses": _ADDRESS, "ServiceWeights": _WEIGHTS, "ServiceMeta": _MAP, "ServicePort": _NUMBER,
    "ServiceSocketPath": _TEXT, "ServiceEnableTagOverride": _FLAG, "ServiceProxy": _PROXY, "ServiceConnect": _CONNECT,
    "CreateIndex": _NUMBER, "ModifyIndex": _NUMBER, "PeerName": _TEXT,
}  # fmt: skip


def predicate(text: str, fields: Mapping[str, Any]) -> Row | None:
    """A function that says whether a decoded row passes; None for an empty filter, which lets all pass.

    Raises ``Misuse`` with bexpr's text for what it would refuse. The function raises it for a pattern that takes too
    much work.
    """
    if not text.strip():
        return None
    try:
        return _build(parse(text), fields)
    except (InvalidField, TooLarge) as error:
        raise bad(_FAILED + error.message.removeprefix("filter: ")) from error


def keep(rows: list[bytes], text: str, fields: Mapping[str, Any]) -> list[bytes]:
    """Those of the rendered rows that pass."""
    passes = predicate(text, fields)
    if passes is None:
        return rows
    return [row for row in rows if passes(decode(row))]


def _build(expression: Expression, fields: Mapping[str, Any]) -> Row:
    if isinstance(expression, Not):
        inner = _build(expression.part, fields)
        return lambda row: not inner(row)
    if isinstance(expression, And):
        all_of = [_build(part, fields) for part in expression.parts]
        return lambda row: all(part(row) for part in all_of)
    if isinstance(expression, Or):
        any_of = [_build(part, fields) for part in expression.parts]
        return lambda row: any(part(row) for part in any_of)
    return _comparison(expression, fields)


def _comparison(comparison: Comparison, fields: Mapping[str, Any]) -> Row:
    kind = _resolve(comparison.selector, fields)
    test = _test(comparison, kind)
    path, negated = comparison.selector.path, comparison.negated
    # go-bexpr 0.1.2: of a key that a map does not have, '==', 'in' and 'is not empty' are false and all else is true.
    missing = comparison.operator not in ("==", "in", "contains") and not (comparison.operator == "empty" and negated)
    if negated and comparison.operator in ("in", "contains"):
        missing = True

    def passes(row: Any) -> bool:
        values = list(_values(row, path, fields))
        if values == [_MISSING]:
            return missing
        return any(test(value) for value in values) is not negated

    return passes


def _resolve(selector: Selector, fields: Mapping[str, Any]) -> Any:
    """The kind of a selector. Raises as bexpr does, naming the longest part that is wrong."""
    known: Any = fields
    path = selector.path
    for depth, name in enumerate(path):
        if isinstance(known, Each):
            known = known.fields
        if isinstance(known, MapOf):
            known = known.fields
            continue
        if known == _MAP and depth == len(path) - 1:
            return _TEXT
        known = known.get(name) if isinstance(known, Mapping) else None
        if known is None:
            raise bad(f'{_FAILED}Selector "{".".join(path[: depth + 1])}" is not valid')
    return known


def _values(row: Any, path: tuple[str, ...], known: Any) -> Iterator[Any]:
    """What a row has at a path; several values when lists of structs are on the way, _MISSING for a map's unknown key."""
    value = row
    for depth, name in enumerate(path):
        if isinstance(known, Each):
            for element in value or ():
                yield from _values(element, path[depth:], known.fields)
            return
        is_map = known == _MAP or isinstance(known, MapOf)
        value = (
            value.get(name, _MISSING if is_map else None) if isinstance(value, dict) else _MISSING if is_map else None
        )
        if value is _MISSING:
            break
        known = known.fields if isinstance(known, MapOf) else known[name] if isinstance(known, Mapping) else _TEXT
    yield value


def _test(comparison: Comparison, kind: Any) -> Callable[[Any], bool]:
    operator, value, text = comparison.operator, comparison.value, comparison.value.text
    selector = ".".join(comparison.selector.path)
    sized = kind in (_LIST, _MAP, _TEXT) or isinstance(kind, Each | MapOf)
    if operator == "empty" and sized:
        return lambda found: not found
    if operator in ("in", "contains") and kind in (_LIST, _MAP, _TEXT):
        return lambda found: text in (found or ())
    if operator == "matches" and kind in (_TEXT, _LIST):
        search = _pattern(text)
        if kind == _LIST:
            return lambda found: any(search(element) for element in found or ())
        return lambda found: search(found or "")
    if operator in ("==", "!=") and kind in (_TEXT, _NUMBER, _FLAG):
        wanted = _coerce(text, value.number, kind, selector)
        zero = {_TEXT: "", _NUMBER: 0, _FLAG: False}[kind]
        equal = operator == "=="
        return lambda found: ((zero if found is None else found) == wanted) is equal
    name = {
        "==": "Equal",
        "!=": "Not Equal",
        "in": "In",
        "contains": "Contains",
        "matches": "Matches",
        "empty": "Is Empty",
    }
    raise bad(f'{_FAILED}Invalid match operator "{name.get(operator, operator)}" for selector "{selector}"')


def _coerce(text: str, number: float | None, kind: str, selector: str) -> object:
    if kind == _NUMBER:
        if number is None or number != int(number):
            try:
                return int(text, 10)
            except ValueError:
                problem = f'strconv.ParseInt: parsing "{text}": invalid syntax'
                raise bad(f'{_FAILED}Failed to coerce value "{text}" for selector "{selector}": {problem}') from None
        return int(number)
    if kind == _FLAG:
        if text not in ("true", "false"):
            problem = f'strconv.ParseBool: parsing "{text}": invalid syntax'
            raise bad(f'{_FAILED}Failed to coerce value "{text}" for selector "{selector}": {problem}')
        return text == "true"
    return text


def _pattern(text: str) -> Callable[[str], bool]:
    try:
        return Pattern(text, "filter").search
    except InvalidField as error:
        reason = error.message.removeprefix("filter: ")
        raise bad(f'{_FAILED}Failed to compile regular expression "{text}": error parsing regexp: {reason}') from error
