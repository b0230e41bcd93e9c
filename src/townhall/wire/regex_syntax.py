"""The syntax of ``linear_regex``: a pattern as text into a tree of five kinds of nodes."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from townhall.model import limits
from townhall.model.errors import InvalidField

__all__ = ["Alternation", "Anchor", "Characters", "Node", "Repetition", "Sequence", "parse"]

_CLASSES = {
    "d": (("0", "9"),),
    "w": (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z")),
    "s": (("\t", "\n"), ("\f", "\r"), (" ", " ")),
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_COUNTS = re.compile(r"\{(\d{1,4})(?:(,)(\d{1,4})?)?\}", re.ASCII)
_REPETITION_COUNT_MAX = 256


class Characters(NamedTuple):
    """One character out of (or, ``negated``, not out of) some ranges."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False
    any_case: bool = False

    def hold(self, character: str) -> bool:
        """Whether this character is meant."""
        found = self._within(character)
        if not found and self.any_case:
            found = self._within(character.lower()) or self._within(character.upper())
        return found is not self.negated

    def _within(self, character: str) -> bool:
        return any(low <= character <= high for low, high in self.ranges)


class Anchor(NamedTuple):
    """The start or the end of the text."""

    start: bool


class Sequence(NamedTuple):
    """One after the other; may be empty."""

    parts: tuple[Node, ...]


class Alternation(NamedTuple):
    """One of these; at least two."""

    parts: tuple[Node, ...]


class Repetition(NamedTuple):
    """Between ``count_min`` and ``count_max`` (None: any number) times."""

    part: Node
    count_min: int
    count_max: int | None


Node = Characters | Anchor | Sequence | Alternation | Repetition


def parse(pattern: str, field: str) -> Node:
    """The tree of a pattern. Raises InvalidField with what is wrong and where."""
    if len(pattern) > limits.FILTER_PATTERN_SIZE_MAX:
        raise InvalidField(field, f"the pattern is longer than {limits.FILTER_PATTERN_SIZE_MAX} characters")
    return _Parser(pattern, field).whole()


class _Parser:
    __slots__ = ("any_case", "at", "depth", "field", "pattern")

    def __init__(self, pattern: str, field: str) -> None:
        self.pattern = pattern
        self.field = field
        self.at = 0
        self.depth = 0
        self.any_case = False

    def whole(self) -> Node:
        if self.pattern.startswith("(?i)"):
            self.any_case = True
            self.at = 4
        node = self.alternation()
        if self.at < len(self.pattern):
            self.fail("an unexpected ')'")
        return node

    def fail(self, problem: str) -> NoReturn:
        raise InvalidField(self.field, f"{problem} in the pattern at character {self.at + 1}")

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self) -> str:
        character = self.peek()
        if not character:
            self.fail("an unexpected end")
        self.at += 1
        return character

    def alternation(self) -> Node:
        parts = [self.sequence()]
        while self.peek() == "|":
            self.at += 1
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else Alternation(tuple(parts))

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repetition())
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def repetition(self) -> Node:
        if self.peek() in ("*", "+", "?"):
            self.fail("nothing to repeat")
        node = self.atom()
        if (counts := self.counts()) is None:
            return node
        if self.peek() == "?":  # Lazy: it changes which match is found, not whether there is one.
            self.at += 1
        if self.peek() in ("*", "+", "?") or _COUNTS.match(self.pattern, self.at):
            self.fail("a repetition of a repetition")
        return Repetition(node, *counts)

    def counts(self) -> tuple[int, int | None] | None:
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        if (found := simple.get(self.peek())) is not None:
            self.at += 1
            return found
        match = _COUNTS.match(self.pattern, self.at)
        if match is None:
            return None
        low = int(match[1])
        high = int(match[3]) if match[3] else None if match[2] else low
        if max(low, high or 0) > _REPETITION_COUNT_MAX or (high is not None and high < low):
            self.fail(f"a repetition count that is not between 0 and {_REPETITION_COUNT_MAX}, or out of order,")
        self.at = match.end()
        return low, high

    def atom(self) -> Node:
        character = self.take()
        if character == "(":
            return self.group()
        if character == "[":
            return self.bracket()
        if character == ".":
            return Characters((("\n", "\n"),), negated=True)
        if character in "^$":
            return Anchor(start=character == "^")
        if character == "\\":
            return self.escape()
        return Characters(((character, character),), any_case=self.any_case)

    def group(self) -> Node:
        if self.peek() == "?":
            self.at += 1
            if self.take() != ":":
                self.fail("a group of a kind that is not known (look-around, flags and names are not)")
        self.depth += 1
        if self.depth > limits.FILTER_DEPTH_MAX:
            self.fail(f"groups nested deeper than {limits.FILTER_DEPTH_MAX}")
        node = self.alternation()
        if self.take() != ")":
            self.fail("a missing ')'")
        self.depth -= 1
        return node

    def escape(self) -> Node:
        character = self.take()
        if character in "Az":
            return Anchor(start=character == "A")
        if (ranges := _CLASSES.get(character.lower())) is not None:
            return Characters(ranges, negated=character.isupper())
        literal = self.literal(character)
        return Characters(((literal, literal),), any_case=self.any_case)

    def literal(self, character: str) -> str:
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character == "x":
            digits = self.pattern[self.at : self.at + 2]
            if not re.fullmatch(r"[0-9A-Fa-f]{2}", digits):
                self.fail("\\x without two hexadecimal digits")
            self.at += 2
            return chr(int(digits, 16))
        if character.isalnum():
            self.fail(f"\\{character}, which is not known")
        return character

    def bracket(self) -> Node:
        negated = self.peek() == "^"
        self.at += negated
        ranges: list[tuple[str, str]] = []
        while not ranges or self.peek() != "]":
            low = self.member(ranges)
            if not low:
                continue
            high = low
            if self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("", "]"):
                self.at += 1
                high = self.member(ranges)
                if not high or high < low:
                    self.fail("a range that is out of order")
            ranges.append((low, high))
        self.at += 1
        return Characters(tuple(ranges), negated=negated, any_case=self.any_case)

    def member(self, ranges: list[tuple[str, str]]) -> str:
        """One character of a class, or '' when it was an escape that stands for several (they are added)."""
        character = self.take()
        if character == "[" and self.peek() == ":":
            self.fail("a named class, which is not known")
        if character != "\\":
            return character
        character = self.take()
        if (known := _CLASSES.get(character)) is not None:
            ranges.extend(known)
            return ""
        return self.literal(character)
