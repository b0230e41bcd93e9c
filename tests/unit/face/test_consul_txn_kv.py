"""Transactions against a model: the operations one after the other on a dictionary."""

from __future__ import annotations

from consul_kv_world import ConsulWorld
from hypothesis import given, settings
from hypothesis import strategies as st

from townhall.core.commands import Transact
from townhall.face.consul import kv
from townhall.face.consul.kv_shapes import SPACE
from townhall.face.consul.txn_kv import READING, VERBS, KvOperation, run

KEYS = ("a", "b", "d/a", "d/b")
OPERATIONS = st.builds(
    KvOperation,
    verb=st.sampled_from(
        ["set", "get", "get-or-empty", "get-tree", "delete", "delete-tree", "check-not-exists", "cas"]
    ),
    key=st.sampled_from([*KEYS, "d/"]),
    value=st.binary(min_size=1, max_size=2),
)


def expected(before: dict[str, bytes], operations: list[KvOperation]) -> tuple[dict[str, bytes], bool]:
    """What the keys hold afterwards, and whether nothing failed."""
    after = dict(before)
    whole = True
    for op in operations:
        if op.verb in ("set", "cas"):
            if op.verb == "cas" and op.key in after:
                whole = False
            else:
                after[op.key] = op.value
        elif op.verb == "delete":
            after.pop(op.key, None)
        elif op.verb == "delete-tree":
            after = {key: value for key, value in after.items() if not key.startswith(op.key)}
        elif (op.verb == "get" and op.key not in after) or (op.verb == "check-not-exists" and op.key in after):
            whole = False
    return (after, True) if whole else (before, False)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(OPERATIONS, max_size=6), max_size=6))
def test_transactions_do_what_their_operations_do_in_order(groups: list[list[KvOperation]]) -> None:
    world = ConsulWorld(kv.routes)
    model: dict[str, bytes] = {}
    for operations in groups:
        trial = run(world.reader(), operations, now_ms=world.now)
        model, whole = expected(model, operations)
        assert whole is not bool(trial.errors)
        if whole and trial.writes:
            outcome = world.run(Transact(space=SPACE, transaction=trial.transaction()))
            assert outcome.result.succeeded, outcome  # type: ignore[union-attr]
        held = world.reader().range(SPACE, b"\0", b"\0").kvs
        assert {kv.key.decode(): kv.value for kv in held} == model


def test_what_reads_is_among_the_verbs() -> None:
    assert VERBS.keys() > READING
