from __future__ import annotations

import pytest
from probing_hub import Probing, probing

from townhall.hub.hub import INTERNAL
from townhall.model.check import Check, CheckDefinition, CheckKind, CheckStatus
from townhall.probe import Finding
from townhall.probe.alias import follow_alias

PASSING, WARNING, CRITICAL = CheckStatus.PASSING, CheckStatus.WARNING, CheckStatus.CRITICAL


def alias(service: str = "", node: str = "") -> Check:
    definition = CheckDefinition(kind=CheckKind.ALIAS, alias_service=service, alias_node=node)
    return Check(node="n", id="alias", definition=definition)


@pytest.mark.parametrize(
    ("service", "node", "expected"),
    [
        ("a", "", Finding(WARNING, 'Aliased check "slow" failing: 9 s')),
        ("b", "", Finding(PASSING, "All checks passing.")),
        ("", "", Finding(PASSING, "All checks passing.")),
        ("", "empty", Finding(PASSING, "No checks found.")),
        ("nobody", "", Finding(CRITICAL, "Service nobody could not be found on node n")),
    ],
)
def test_an_alias_is_as_well_as_what_it_follows(service: str, node: str, expected: Finding):
    async def body(bench: Probing) -> None:
        await bench.register("a")
        await bench.register("b")
        await bench.put(CheckDefinition(), "c1", status=PASSING)
        await bench.put(CheckDefinition(), "c2", status=WARNING, name="slow", output="9 s")
        await bench.put(CheckDefinition(), "alive", status=PASSING, key=None, instance="")
        assert follow_alias(alias(service, node), bench.hub.reader(INTERNAL)) == expected

    probing(body)
