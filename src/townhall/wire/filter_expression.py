"""The filter language: text into a tree. ``filter_predicate`` turns the tree into a function.

::

    or         = and { "or" and }
    and        = not { "and" not }
    not        = "not" not | "(" or ")" | comparison
    comparison = value [ "not" ] "in" selector
               | selector [ "not" ] ( "contains" | "matches" ) value
               | selector ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) value
               | selector "is" [ "not" ] "empty"
    selector   = word { "[" string "]" | "." word }
    value      = string | number | word

Strings stand in ``"double"`` or ``'single'`` quotes with backslash escapes, or raw in backticks. Precedence and
keywords are those of Consul's bexpr, of which this is a superset (``<`` and its kin, single quotes, hyphens in words).
Which selectors exist is not decided here, so that every face can bring its own.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, NoReturn

from townhall.model import limits
from townhall.model.errors import InvalidField

__all__ = ["And", "Comparison", "Expression", "Not", "Operator", "Or", "Selector", "Value", "parse"]

Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "contains", "matches", "empty"]

_TOKEN = re.compile(
    r"""\s*+(?:
      (?P<string>"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|`[^`]*+`)
    | (?P<word>-?[A-Za-z0-9_][A-Za-z0-9_.\-]*+)
    | (?P<symbol>==|!=|<=|>=|<|>|\(|\)|\[|\]|\.)
    )""",
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(r"\s*+")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "b": "\b", "a": "\a", "v": "\v"}
_KEYWORDS = frozenset({"and", "or", "not", "in", "contains", "matches", "is", "empty"})
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]{1,3})?", re.ASCII)


class Selector(NamedTuple):
    """What a comparison looks at: ``metadata.version`` or ``metadata["a key"]``. ``at`` counts characters from 1."""

    path: tuple[str, ...]
    at: int

    def __str__(self) -> str:
        return ".".join(self.path)


class Value(NamedTuple):
    """What it compares with. ``number`` is set when the text is one and was not quoted."""

    text: str
    number: float | None
    at: int


class Comparison(NamedTuple):
    """One condition. ``negated`` for ``not in``, ``not contains``, ``not matches`` and ``is not empty``."""

    selector: Selector
    operator: Operator
    value: Value
    negated: bool


class Not(NamedTuple):
    """The opposite."""

    part: Expression


class And(NamedTuple):
    """All of these; at least two."""

    parts: tuple[Expression, ...]


class Or(NamedTuple):
    """Any of these; at least two."""

    parts: tuple[Expression, ...]


Expression = Comparison | Not | And | Or


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(text: str, field: str = "filter") -> Expression:
    """The tree of an expression. Raises InvalidField with what is wrong and at which character."""
    if len(text) > limits.FILTER_SIZE_MAX:
        raise InvalidField(field, f"longer than {limits.FILTER_SIZE_MAX} characters")
    parser = _Parser(_tokens(text, field), field)
    expression = parser.either()
    parser.expect_end()
    return expression


def _tokens(text: str, field: str) -> list[_Token]:
    tokens = []
    position = 0
    while (match := _TOKEN.match(text, position)) is not None:
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match[kind], match.start(kind) + 1))
        position = match.end()
    blank = _BLANK.match(text, position)
    end = blank.end() if blank else position
    if end < len(text):
        problem = "a string without its end" if text[end] in "\"'`" else f"unexpected {text[end]!r}"
        raise InvalidField(field, f"{problem} at character {end + 1}")
    tokens.append(_Token("end", "", len(text) + 1))
    return tokens


class _Parser:
    __slots__ = ("at", "depth", "field", "terms", "tokens")

    def __init__(self, tokens: list[_Token], field: str) -> None:
        self.tokens = tokens
        self.field = field
        self.at = 0
        self.depth = 0
        self.terms = 0

    def fail(self, problem: str, token: _Token | None = None) -> NoReturn:
        token = token or self.tokens[self.at]
        found = f", not {token.text!r}," if token.text else ", not the end,"
        raise InvalidField(self.field, f"{problem}{found} at character {token.at}")

    def accept(self, *texts: str) -> str:
        token = self.tokens[self.at]
        if token.kind != "string" and token.text in texts and token.kind != "end":
            self.at += 1
            return token.text
        return ""

    def expect_end(self) -> None:
        if self.tokens[self.at].kind != "end":
            self.fail("expected 'and', 'or' or the end")

    def either(self) -> Expression:
        parts = [self.all()]
        while self.accept("or"):
            parts.append(self.all())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def all(self) -> Expression:
        parts = [self.negation()]
        while self.accept("and"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def negation(self) -> Expression:
        opening = self.accept("not", "(")
        if not opening:
            return self.comparison()
        self.depth += 1
        if self.depth > limits.FILTER_DEPTH_MAX:
            raise InvalidField(self.field, f"nests deeper than {limits.FILTER_DEPTH_MAX} levels")
        if opening == "not":
            expression: Expression = Not(self.negation())
        else:
            expression = self.either()
            if not self.accept(")"):
                self.fail("expected ')'")
        self.depth -= 1
        return expression

    def comparison(self) -> Comparison:
        self.terms += 1
        if self.terms > limits.FILTER_TERMS_MAX:
            raise InvalidField(self.field, f"more than {limits.FILTER_TERMS_MAX} comparisons")
        left = self.tokens[self.at]
        operand = self.value() if left.kind == "string" else self.selector()
        negated = bool(self.accept("not"))
        if self.accept("in"):
            value = operand if isinstance(operand, Value) else _unquoted(left)
            if isinstance(operand, Selector) and len(operand.path) > 1 and str(operand) != left.text:
                self.fail("expected a value before 'in'", left)
            return Comparison(self.selector(), "in", value, negated)
        if isinstance(operand, Value):
            self.fail("expected 'in' after a value")
        return self.after_selector(operand, negated=negated)

    def after_selector(self, selector: Selector, *, negated: bool) -> Comparison:
        if self.accept("contains"):
            return Comparison(selector, "contains", self.value(), negated)
        if self.accept("matches"):
            return Comparison(selector, "matches", self.value(), negated)
        if negated:
            self.fail("expected 'in', 'contains' or 'matches' after 'not'")
        if self.accept("is"):
            negated = bool(self.accept("not"))
            if not self.accept("empty"):
                self.fail("expected 'empty'")
            return Comparison(selector, "empty", Value("", None, selector.at), negated)
        operator = next((one for one in _COMPARING if self.accept(one)), None)
        if operator is None:
            self.fail("expected an operator")
        return Comparison(selector, operator, self.value(), negated=False)

    def selector(self) -> Selector:
        token = self.tokens[self.at]
        if token.kind != "word" or token.text in _KEYWORDS:
            self.fail("expected a selector")
        path = self.names()
        while True:
            if self.accept("["):
                key = self.tokens[self.at]
                if key.kind != "string":
                    self.fail("expected a quoted key")
                path.append(self.value().text)
                if not self.accept("]"):
                    self.fail("expected ']'")
            elif self.accept("."):
                path += self.names()
            else:
                return Selector(tuple(path), token.at)

    def names(self) -> list[str]:
        token = self.tokens[self.at]
        names = token.text.split(".")
        if token.kind != "word" or not all(names):
            self.fail("expected names with a dot between them")
        self.at += 1
        return names

    def value(self) -> Value:
        token = self.tokens[self.at]
        if token.kind not in ("word", "string") or (token.kind == "word" and token.text in _KEYWORDS):
            self.fail("expected a value")
        self.at += 1
        if token.kind == "word":
            return _unquoted(token)
        inner = token.text[1:-1]
        return Value(inner if token.text[0] == "`" else _ESCAPE.sub(_unescape, inner), None, token.at)


_COMPARING: tuple[Operator, ...] = ("==", "!=", "<=", ">=", "<", ">")


def _unquoted(token: _Token) -> Value:
    return Value(token.text, float(token.text) if _NUMBER.fullmatch(token.text) else None, token.at)


def _unescape(match: re.Match[str]) -> str:
    escape = match[1]
    if len(escape) == 5:
        character = chr(int(escape[1:], 16))
        return "\N{REPLACEMENT CHARACTER}" if "\ud800" <= character <= "\udfff" else character
    return _CONTROLS.get(escape, escape)
