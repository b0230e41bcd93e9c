"""Commands and facts as vocabularies: complete unions, imperative and past tense, immutable, tags told apart."""

from __future__ import annotations

import typing

import msgspec
import pytest

from townhall.core import commands, facts
from townhall.core.commands import LeaseGrant, Registration
from townhall.model.instance import Instance, ServiceKey

ANSWERS = {"Expected", "LeaseGrant", "RangeResult", "Registration", "TransactResult"}


def test_the_union_names_every_command():
    assert {command.__name__ for command in typing.get_args(commands.Command)} == set(commands.__all__) - ANSWERS - {
        "Command"
    }


def test_the_union_names_every_fact():
    told = {fact.__name__ for fact in typing.get_args(facts.Fact)}
    assert told == set(facts.__all__) - {"Commit", "Fact", "KeyDeleted", "KeyPut"}


def test_tags_of_facts_are_told_apart_and_stay():
    tags = {fact.__name__: fact.__struct_config__.tag for fact in typing.get_args(facts.Fact)}
    assert len(set(tags.values())) == len(tags)
    assert (tags["Registered"], tags["LeaseGranted"], tags["KeysWritten"], tags["PolicyDeleted"]) == (1, 10, 20, 34)


@pytest.mark.parametrize("kind", [*typing.get_args(commands.Command), *typing.get_args(facts.Fact)])
def test_all_of_them_are_immutable(kind):
    assert kind.__struct_config__.frozen
    assert kind.__doc__


def test_answers():
    instance = Instance(key=ServiceKey("d", "d", "s"), id="a", address="127.0.0.1")
    answer = Registration(instance, lease=7, ttl_ms=5, fresh=True)
    assert (answer.instance.id, answer.lease, answer.ttl_ms, answer.fresh) == ("a", 7, 5, True)
    with pytest.raises(AttributeError):
        msgspec.structs.replace(LeaseGrant(7, 5)).id = 8  # type: ignore[misc]
