from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.model.errors import InvalidField
from townhall.wire.regex_syntax import Alternation, Anchor, Characters, Repetition, Sequence, parse

A = Characters((("a", "a"),))
B = Characters((("b", "b"),))


@pytest.mark.parametrize(
    ("pattern", "tree"),
    [
        ("", Sequence(())),
        ("a", A),
        ("ab", Sequence((A, B))),
        ("a|b", Alternation((A, B))),
        ("a*", Repetition(A, 0, None)),
        ("a+?", Repetition(A, 1, None)),
        ("(?:a)?", Repetition(A, 0, 1)),
        ("a{2,}", Repetition(A, 2, None)),
        ("a{2,5}", Repetition(A, 2, 5)),
        ("^$", Sequence((Anchor(start=True), Anchor(start=False)))),
        ("[ab-c]", Characters((("a", "a"), ("b", "c")))),
        (".", Characters((("\n", "\n"),), negated=True)),
        ("(?i)a", Characters((("a", "a"),), any_case=True)),
    ],
)
def test_trees(pattern: str, tree: object) -> None:
    assert parse(pattern, "p") == tree


def test_problems_say_where() -> None:
    with pytest.raises(InvalidField) as refused:
        parse("ab(cd", "p")
    assert "character 6" in refused.value.message


def test_characters() -> None:
    assert Characters((("a", "c"),)).hold("b")
    assert not Characters((("a", "c"),), negated=True).hold("b")
    assert Characters((("a", "c"),), any_case=True).hold("B")


@given(st.text(max_size=12))
def test_any_text_is_a_tree_or_refused(pattern: str) -> None:
    with contextlib.suppress(InvalidField):
        parse(pattern, "p")
