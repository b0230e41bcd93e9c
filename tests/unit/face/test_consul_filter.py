from __future__ import annotations

import pytest

from townhall.face.consul.filter import AGENT_SERVICE, CHECK, HEALTH, keep, predicate
from townhall.model.errors import Misuse

ROW = {
    "Node": {"Node": "n1", "Meta": None},
    "Service": {"ID": "db-1", "Port": 5432, "Tags": ["primary"], "Meta": {"k": "v"}, "EnableTagOverride": False,
                "TaggedAddresses": {"lan": {"Address": "127.0.0.1", "Port": 1}}},
    "Checks": [{"CheckID": "a", "Status": "passing"}, {"CheckID": "b", "Status": "warning"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("Service.Port == 5432", True),
        ("Service.Port != 5432", False),
        ('"primary" in Service.Tags', True),
        ('"primary" not in Service.Tags', False),
        ("Service.Tags contains replica", False),
        ("Service.Meta is empty", False),
        ("Node.Meta is empty", True),
        ("Service.Meta is not empty", True),
        ('Service.ID matches "db-[0-9]"', True),
        ('Service.ID not matches "db-[0-9]"', False),
        ('Service.Meta["k"] == "v"', True),
        ("Service.Meta.k == v", True),
        ('"k" in Service.Meta', True),
        ("Checks.Status == warning", True),
        ("Checks.Status == critical", False),
        ("not Service.Port == 1 and Service.ID == db-1 or Service.ID == x", True),
        ("Service.EnableTagOverride == false", True),
        ("Service.SocketPath == ``", True),
        ("Service.TaggedAddresses.lan.Port == 1", True),
        ('"b-1" in Service.ID', True),
    ],
)
def test_expressions(text, passes):
    found = predicate(text, HEALTH)
    assert found is not None
    assert found(ROW) is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("Service.Meta.none == v", False),
        ("Service.Meta.none != v", True),
        ("Service.Meta.none is empty", True),
        ("Service.Meta.none is not empty", False),
        ('"x" in Service.Meta.none', False),
        ('"x" not in Service.Meta.none', True),
        ('Service.Meta.none matches "x"', True),
        ('Service.Meta.none not matches "x"', True),
        ("Service.TaggedAddresses.wan.Port == 1", False),
    ],
)
def test_a_key_that_a_map_does_not_have(text, passes):
    found = predicate(text, HEALTH)
    assert found is not None
    assert found(ROW) is passes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Service.Nope == 1", 'Selector "Service.Nope" is not valid'),
        ("service.port == 1", 'Selector "service" is not valid'),
        ("Service.Port == x", 'Failed to coerce value "x" for selector "Service.Port": strconv.ParseInt'),
        ("Service.Port matches 1", 'Invalid match operator "Matches" for selector "Service.Port"'),
        ("Service.EnableTagOverride == perhaps", "strconv.ParseBool"),
        ('Service.ID matches "["', "Failed to compile regular expression"),
        ("Service.Port = 1", "Failed to create boolean expression evaluator"),
        ("(Service.Port == 1", "Failed to create boolean expression evaluator"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(Misuse) as refused:
        predicate(text, HEALTH)
    assert message in refused.value.message


def test_rows_are_kept_or_left_out():
    rows = [b'{"ID":"a","Port":1}', b'{"ID":"b","Port":2}']
    assert keep(rows, "Port == 2", AGENT_SERVICE) == rows[1:]
    assert keep(rows, " ", AGENT_SERVICE) == rows
    assert predicate("ServiceTags is empty", CHECK)({"ServiceTags": []})
