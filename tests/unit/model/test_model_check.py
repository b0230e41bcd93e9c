from __future__ import annotations

import msgspec

from townhall.model.check import ACTIVE_KINDS, NO_DEFINITION, Check, CheckDefinition, CheckKind, CheckStatus, Node
from townhall.model.instance import ServiceKey


def test_a_check_there_and_back() -> None:
    check = Check(
        node="n",
        id="service:web",
        key=ServiceKey("default", "default", "web"),
        instance="web",
        definition=CheckDefinition(kind=CheckKind.HTTP, target="http://127.0.0.1:1/", headers={"a": ("b",)}),
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(check), type=Check) == check
    assert check.service_name == "web"
    assert Check(node="n", id="alive").service_name == ""


def test_a_check_nobody_has_heard_of_is_critical() -> None:
    assert Check(node="n", id="c").status is CheckStatus.CRITICAL
    assert Check(node="n", id="c").definition is NO_DEFINITION


def test_kinds_that_the_registry_runs_are_no_promises_of_others() -> None:
    assert not ACTIVE_KINDS & {CheckKind.NONE, CheckKind.TTL, CheckKind.ALIAS}


def test_a_node_there_and_back() -> None:
    node = Node(name="n", meta={"a": "b"}, tagged_addresses={"lan": "127.0.0.1"})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(node), type=Node) == node
