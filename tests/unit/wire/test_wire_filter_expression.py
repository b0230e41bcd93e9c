from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from townhall.model import limits
from townhall.model.errors import InvalidField
from townhall.wire.filter_expression import And, Comparison, Expression, Not, Or, Selector, Value, parse


def show(expression: Expression) -> str:
    """The tree, with every bracket."""
    match expression:
        case Comparison(selector, operator, value, negated):
            return f"{'!' if negated else ''}{selector.path} {operator} {value.text!r}"
        case Not(part):
            return f"not({show(part)})"
        case And(parts):
            return "and(" + ", ".join(map(show, parts)) + ")"
        case Or(parts):
            return "or(" + ", ".join(map(show, parts)) + ")"


def test_positions_and_numbers_are_kept() -> None:
    assert parse(' zone == "b" ') == Comparison(Selector(("zone",), 2), "==", Value("b", None, 10), False)
    assert parse("a==-1.5e2") == Comparison(Selector(("a",), 1), "==", Value("-1.5e2", -150.0, 4), False)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a == b", "('a',) == 'b'"),
        ("a==b", "('a',) == 'b'"),
        ("a.b-c != 1", "('a', 'b-c') != '1'"),
        ('a["x y"].z < 1', "('a', 'x y', 'z') < '1'"),
        ("a.b[`c.d`] >= 1", "('a', 'b', 'c.d') >= '1'"),
        ('"x" in a', "('a',) in 'x'"),
        ("x.y not in a.b", "!('a', 'b') in 'x.y'"),
        ("127.0.0.1 in a", "('a',) in '127.0.0.1'"),
        ("a contains 'x\"'", "('a',) contains 'x\"'"),
        ("a not contains x", "!('a',) contains 'x'"),
        ("a matches `^\\d+$`", "('a',) matches '^\\\\d+$'"),
        ('a not matches "x"', "!('a',) matches 'x'"),
        ("a is empty", "('a',) empty ''"),
        ("a is not empty", "!('a',) empty ''"),
        ('a == "\\"\\\\\\n\\u00e9\\ud800"', "('a',) == '\"\\\\\\né�'"),
        ("a == 1 and b == 2 or c == 3", "or(and(('a',) == '1', ('b',) == '2'), ('c',) == '3')"),
        ("a == 1 or b == 2 and c == 3", "or(('a',) == '1', and(('b',) == '2', ('c',) == '3'))"),
        ("not a == 1 and b == 2", "and(not(('a',) == '1'), ('b',) == '2')"),
        ("not (a == 1 and b == 2)", "not(and(('a',) == '1', ('b',) == '2'))"),
        ("not not a == 1", "not(not(('a',) == '1'))"),
        ("((a == 1))", "('a',) == '1'"),
        ("AND == 1", "('AND',) == '1'"),
    ],
)
def test_grammar(text: str, tree: str) -> None:
    assert show(parse(text)) == tree


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", 1),
        ("  ", 3),
        ("a", 2),
        ("a ==", 5),
        ("a = 1", 3),
        ("a == 1 b", 8),
        ("a == 1 and", 11),
        ("and == 1", 1),
        ("(a == 1", 8),
        ("a == 1)", 7),
        ('"x" == a', 5),
        ('"x" in "y"', 8),
        ('a == "x', 6),
        ("a == 'x", 6),
        ("a == `x", 6),
        ("a is", 5),
        ("a is full", 6),
        ("a not == 1", 7),
        ("a[b] == 1", 3),
        ('a["b" == 1', 7),
        ("a. == 1", 1),
        ("a == (1)", 6),
        ('a["x"] in b', 1),
        ("a == 1 & b == 2", 8),
        ("a == not", 6),
        ("\x00", 1),
    ],
)
def test_problems_say_where(text: str, at: int) -> None:
    with pytest.raises(InvalidField) as refused:
        parse(text, "filter")
    assert refused.value.fields["field"] == "filter"
    if at != 1 or "character" in refused.value.message:
        assert f"character {at}" in refused.value.message, refused.value.message


def test_limits() -> None:
    many = " or ".join(["a == 1"] * limits.FILTER_TERMS_MAX)
    assert len(many) < limits.FILTER_SIZE_MAX
    parse(many)
    deep = limits.FILTER_DEPTH_MAX
    parse("(" * deep + "a == 1" + ")" * deep)
    for text in (
        many + " or a == 1",
        "(" * (deep + 1) + "a == 1" + ")" * (deep + 1),
        "not " * (deep + 1) + "a == 1",
        "a == " + "x" * limits.FILTER_SIZE_MAX,
        "(" * limits.FILTER_SIZE_MAX,
    ):
        with pytest.raises(InvalidField):
            parse(text)


def test_every_truncation_is_refused_or_parsed() -> None:
    text = 'not (a["k"] == "v" and `x` in tags) or b.c matches "^[a-z]+$" and d is not empty'
    parse(text)
    for size in range(len(text)):
        with contextlib.suppress(InvalidField):
            parse(text[:size])


TOKENS = st.sampled_from(
    ["a", "b.c", '"x"', "`y`", "1", "==", "!=", "<", "in", "not", "and", "or", "is", "empty", "contains", "matches", "(", ")", "[", "]", "."]
)  # fmt: skip


@settings(max_examples=300)
@given(st.text(max_size=30) | st.lists(TOKENS, max_size=14).map(" ".join))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidField):
        parse(text)
