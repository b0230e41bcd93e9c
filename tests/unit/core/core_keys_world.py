"""The registry of a test that is about keys."""

from __future__ import annotations

from typing import Any

from core_world import INTERNAL, World

from townhall.core import Decision, Unsettled, commands
from townhall.core.commands import TransactResult
from townhall.core.keyspace import Keyspace
from townhall.model.access import Actor
from townhall.model.errors import TownhallError
from townhall.model.keys import Compare, CompareTarget, KeyValue, Operation, Put, Relation, Transaction
from townhall.model.lease import LeaseKind

SPACE = "etcd"


class KeysWorld(World):
    """``run`` settles results, as the hub does."""

    def run(self, command: commands.Command, actor: Actor = INTERNAL, node: str = "n1") -> Any:
        decision = self.decide(command, actor, node)
        if isinstance(decision, TownhallError):
            raise decision
        assert isinstance(decision, Decision)
        if not decision.facts:
            return decision.result
        changes = self.commit(decision.facts, node)
        self.state.check()
        result = decision.result
        return result.settle(changes) if isinstance(result, Unsettled) else result

    @property
    def space(self) -> Keyspace:
        return self.state.spaces[SPACE]

    def do(self, *operations: Operation) -> TransactResult:
        """A transaction without compares."""
        return self.txn(Transaction(success=operations))

    def txn(self, transaction: Transaction) -> TransactResult:
        result = self.run(commands.Transact(space=SPACE, transaction=transaction))
        assert isinstance(result, TransactResult)
        return result

    def put(self, key: bytes, value: bytes = b"v", **fields: Any) -> int:
        """Returns the revision."""
        return self.do(Put(key, value, **fields)).revision

    def get(self, key: bytes) -> KeyValue | None:
        return self.reader.get(SPACE, key)

    def holds(
        self, key: bytes, target: CompareTarget, relation: Relation, value: int | bytes, end: bytes = b""
    ) -> bool:
        return self.txn(Transaction((Compare(key, target, relation, value, end),))).succeeded

    def grant(self, **fields: Any) -> int:
        wanted: dict[str, Any] = {"ttl_ms": 5_000, "kind": LeaseKind.KEYS} | fields
        granted = self.run(commands.GrantLease(**wanted))
        assert isinstance(granted, commands.LeaseGrant)
        return granted.id

    def open_session(self, **fields: Any) -> str:
        opened = self.run(commands.OpenSession(**fields))
        assert isinstance(opened, str)
        return opened

    def close(self, session: str) -> None:
        self.run(commands.CloseSession(id=session))
