from __future__ import annotations

import contextlib
import re
import warnings

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from townhall.model import limits
from townhall.model.errors import InvalidField, TooLarge
from townhall.wire.linear_regex import Pattern


@pytest.mark.parametrize(
    ("pattern", "found", "missed"),
    [
        ("", ["", "x"], []),
        ("abc", ["abc", "xxabcxx"], ["ab", ""]),
        ("^v[0-9]+$", ["v1", "v22"], ["v", "xv1", "v1x"]),
        ("a|b|", ["a", "", "c"], []),
        ("^(?:a|bc)$", ["a", "bc"], ["abc", "b"]),
        ("^a{2,3}$", ["aa", "aaa"], ["a", "aaaa"]),
        ("^a{2}$", ["aa"], ["a", "aaa"]),
        ("^a{2,}$", ["aa", "a" * 9], ["a"]),
        ("^a{0}$", [""], ["a"]),
        ("^(a{0})*$", [""], ["a"]),
        ("^(a*)*$", ["", "aaa"], ["b"]),
        ("a{", ["a{"], ["a"]),
        (r"^\d\w\s\.$", ["1a ."], ["1a x", "aa ."]),
        (r"^\D\W\S$", ["a-b"], ["1-b", "aab", "a- "]),
        (r"\Ax\z", ["x"], ["xx", "x\n"]),
        (r"^\x41\t$", ["A\t"], ["A"]),
        ("^[^a-c]$", ["d", "\n"], ["b"]),
        ("^[]a]$", ["]", "a"], ["b"]),
        ("^[a-]$", ["a", "-"], ["b"]),
        (r"^[\d\-x]$", ["5", "-", "x"], ["y"]),
        ("^.$", ["x", "é"], ["\n", ""]),
        ("(?i)^héLLo$", ["hÉllo", "HÉLLO"], ["hallo"]),
        ("^a+?b*?c??$", ["a", "abc"], ["b"]),
        ("$^", [""], ["x"]),
    ],
)
def test_matching(pattern: str, found: list[str], missed: list[str]) -> None:
    compiled = Pattern(pattern)
    assert [text for text in found if not compiled.search(text)] == []
    assert [text for text in missed if compiled.search(text)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        "(", ")", "a)", "[", "[]", "[a", "[z-a]", "*", "+a", "a**", "a{2}{3}", "a{3,2}", "a{999}", "\\", "\\b", "\\1",
        "(?=a)", "(?<n>a)", "(?P<n>a)", "a(?i)b", "[[:alpha:]]", "\\xg0", "\\p", "(?", "[\\", "[a-\\d]",
        "(" * (limits.FILTER_DEPTH_MAX + 1) + ")" * (limits.FILTER_DEPTH_MAX + 1),
        "a" * (limits.FILTER_PATTERN_SIZE_MAX + 1),
        "((a{200}){200}){200}",
        "(((){256}){256}a{256}){256}",
    ],
)  # fmt: skip
def test_what_is_wrong_or_unknown_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidField) as refused:
        Pattern(pattern, "here")
    assert refused.value.fields["field"] == "here"


def test_programs_are_limited() -> None:
    count = limits.FILTER_PROGRAM_MAX // 256
    Pattern("a{256}" * (count - 1))
    with pytest.raises(InvalidField):
        Pattern("a{256}" * (count + 1))


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a|a)*b", "(a|b)*a(a|b){12}c", "(.*)(.*)(.*)(.*)x", "(a?){200}a{200}c", "(((a*)*)*)*c", "^(([a-z])+.)+[A-Z]([a-z])+$"],
)  # fmt: skip
def test_nothing_takes_long(pattern: str) -> None:
    """With backtracking each of these would take longer than the universe has."""
    compiled = Pattern(pattern)
    for text in ("a" * limits.METADATA_VALUE_SIZE_MAX, "ab" * (limits.METADATA_VALUE_SIZE_MAX // 2)):
        with contextlib.suppress(TooLarge):
            assert compiled.search(text) in (True, False)


def test_work_is_counted_over_all_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILTER_WORK_MAX", 2_000)
    compiled = Pattern("(a|b)*a(a|b){12}c")
    texts = [format(number, "b").replace("0", "a").replace("1", "b") * 3 for number in range(1, 10_000)]
    with pytest.raises(TooLarge):
        any(map(compiled.search, texts))


SYNTAX = st.text(st.sampled_from("ab1|()*+?.^$[]-\\dw{2}"), max_size=10)


@settings(max_examples=600, deadline=None)
@given(SYNTAX, st.lists(st.text(st.sampled_from("ab1-\n"), max_size=7), max_size=5))
def test_it_agrees_with_re_where_both_know_the_syntax(pattern: str, texts: list[str]) -> None:
    try:
        ours = Pattern(pattern)
    except InvalidField:
        return
    # Python's '$' also matches before a last line end, and it takes possessive quantifiers and sets of sets.
    assume("[" not in pattern or "$" not in pattern)
    theirs_pattern = re.sub(r"(?<!\\)((?:\\\\)*)\$", r"\1\\Z", pattern) if "[" not in pattern else pattern
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = re.compile(theirs_pattern, re.ASCII)
    except re.error:
        return
    for text in texts:
        assert ours.search(text) == bool(theirs.search(text)), text
