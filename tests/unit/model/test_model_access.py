"""The values of access control."""

from __future__ import annotations

import msgspec
import pytest

from townhall.model.access import Actor, Level, Resource, Rule, Token


def test_levels_are_ordered_and_resources_have_stable_names() -> None:
    assert Level.DENY < Level.READ < Level.WRITE
    assert [str(r) for r in Resource] == ["service", "key", "session", "node", "agent", "operator"]


def test_a_rule_covers_a_prefix_unless_told_otherwise() -> None:
    assert Rule(Resource.KEY, Level.READ).prefix
    with pytest.raises(msgspec.ValidationError, match="prefx"):
        msgspec.json.decode(b'{"resource": "key", "level": 1, "prefx": false}', type=Rule)


def test_an_actor_has_no_rights_by_itself() -> None:
    actor = Actor()
    assert (actor.rules, actor.management, actor.internal) == ((), False, False)


def test_a_token_keeps_a_hash_and_no_secret() -> None:
    assert "secret" not in Token.__struct_fields__
    assert "secret_hash" in Token.__struct_fields__
