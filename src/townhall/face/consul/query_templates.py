"""Templates of prepared queries: one definition for all names with a common beginning.

``${name.full}``, ``${name.prefix}``, ``${name.suffix}`` and ``${match(N)}`` in the texts of its service part are
filled in from the name that is asked for. A regexp with groups needs backtracking in CPython, so only those are taken
whose worst case is small: no repetition within a repetition, and few without an upper end.
"""

from __future__ import annotations

import re
from typing import Any

from townhall.face.consul.errors import bad
from townhall.model.errors import TownhallError
from townhall.wire import regex_syntax
from townhall.wire.regex_syntax import Alternation, Node, Repetition

__all__ = ["check_template", "filled"]

_TYPE = "name_prefix_match"
_REPETITIONS_MAX = 3
"""With names of at most 128 characters the worst match takes 128³ / 6 steps, about 10 ms."""
_NAME_SIZE_MAX = 128
_BOUND_MAX = 16
"""A repetition up to this often counts as one that ends."""
_VARIABLE = re.compile(r"\$\{\s*(?:name\.(full|prefix|suffix)|match\((\d{1,3})\))\s*\}")


def check_template(definition: dict[str, Any]) -> None:
    """Raise ``Misuse`` unless the template can be used."""
    template = definition["Template"]
    if template["Type"] != _TYPE:
        raise bad(f"Invalid prepared query: Bad Template: unknown Template.Type '{template['Type'][:64]}'")
    if template["Regexp"]:
        _compile(template["Regexp"])


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        parsed = regex_syntax.parse(pattern, "Regexp")
        if _endless(parsed) > _REPETITIONS_MAX:
            raise bad("Invalid prepared query: Bad Regexp: too many repetitions for a match that is sure to be quick")
        return re.compile(pattern.replace(r"\z", r"\Z"), re.ASCII)
    except TownhallError as error:
        if "prepared query" in error.message:
            raise
        raise bad(f"Invalid prepared query: Bad Regexp: {error.message}") from None
    except re.error as error:
        raise bad(f"Invalid prepared query: Bad Regexp: {error}") from None


def _endless(node: Node) -> int:
    """How many repetitions without a near end there are; one within another counts as too many."""
    if isinstance(node, Repetition):
        inner = _endless(node.part)
        most = node.count_max
        repeats = most is None or most > _BOUND_MAX
        if inner and (most is None or most > 1):
            return _REPETITIONS_MAX + 1
        return inner + int(repeats)
    if isinstance(node, regex_syntax.Sequence | Alternation):
        return sum([_endless(part) for part in node.parts])
    return 0


def filled(definition: dict[str, Any], name: str) -> dict[str, Any]:
    """The definition for a name, with all variables filled in; an unknown one is empty."""
    template = definition["Template"]
    prefix = definition["Name"]
    parts = {"full": name, "prefix": prefix, "suffix": name.removeprefix(prefix)}
    match = None
    if template["Regexp"] and len(name) <= _NAME_SIZE_MAX:
        match = _compile(template["Regexp"]).search(name)

    def value(found: re.Match[str]) -> str:
        if found[1]:
            return str(parts[found[1]])
        group = int(found[2])
        if match is None or group > match.re.groups:
            return ""
        text = match.group(group)
        return text if isinstance(text, str) else ""

    def fill(text: Any) -> Any:
        if isinstance(text, str):
            return _VARIABLE.sub(value, text)
        if isinstance(text, list):
            return [fill(one) for one in text]
        if isinstance(text, dict):
            return {key: fill(one) for key, one in text.items()}
        return text

    service = fill(definition["Service"])
    if template["RemoveEmptyTags"] and service["Tags"]:
        service["Tags"] = [tag for tag in service["Tags"] if tag] or None
    return {**definition, "Service": service}
