"""The text of Consul's rules, and what the core makes of it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.face.consul.acl_rules import core_rules
from townhall.model.access import Level, Resource, Rule
from townhall.model.errors import TownhallError


def test_hcl_in_all_its_forms() -> None:
    text = """
    # a comment
    service "web" { policy = "write" }
    service_prefix "" {
      policy = "read"
      intentions = "deny"
    } // another
    key_prefix "é/" { policy = "list" } /* and
    one more */
    session_prefix "n" { policy = "write" }
    operator = "read"
    mesh = "write"
    """
    assert core_rules(text) == (
        Rule(Resource.SERVICE, Level.WRITE, "default/default/web", prefix=False),
        Rule(Resource.SERVICE, Level.READ, "default/default/"),
        Rule(Resource.KEY, Level.READ, "consul/Ã©/"),
        Rule(Resource.SESSION, Level.WRITE, "n"),
        Rule(Resource.OPERATOR, Level.READ),
        Rule(Resource.KEY, Level.READ, "consul.config/"),
        Rule(Resource.KEY, Level.READ, "consul.operator/"),
    )


def test_json_means_the_same() -> None:
    text = '{"key_prefix": {"a/": {"policy": "write"}}, "acl": "write", "node": {"n1": {"policy": "deny"}}}'
    assert core_rules(text) == (
        Rule(Resource.KEY, Level.WRITE, "consul/a/"),
        Rule(Resource.OPERATOR, Level.WRITE),
        Rule(Resource.KEY, Level.WRITE, "consul.acl/"),
        Rule(Resource.NODE, Level.DENY, "n1", prefix=False),
        Rule(Resource.KEY, Level.DENY, "consul.coordinates/n1", prefix=False),
    )


@pytest.mark.parametrize(
    "text",
    ['key "a"', 'key "a" {', 'key "a" { policy }', 'key "a" { policy = "maybe" }', 'cat "a" { policy = "read" }',
     'operator = "x"', "{", '{"key": 1}', '{"key": {"a": {}}}', "!!", 'key "a" {} key "b" { policy = "read" }'],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(TownhallError, match="Failed to parse ACL rules"):
        core_rules(text)


@given(st.text(alphabet='key_prefix servicoperat="{}:,#/* \nabrd\\', max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(TownhallError):
        assert isinstance(core_rules(text), tuple)
