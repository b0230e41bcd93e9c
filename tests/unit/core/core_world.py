"""A registry of one test: decides, encodes, decodes and evolves as the hub would, and checks every invariant."""

from __future__ import annotations

from itertools import count
from typing import Any

from townhall.core import Changes, Commit, Context, Decision, Rules, commands
from townhall.core.codec import decode_commit, encode_commit
from townhall.core.decide import decide
from townhall.core.evolve import evolve
from townhall.core.queries import Reader
from townhall.core.state import State
from townhall.model.access import Actor
from townhall.model.errors import TownhallError
from townhall.model.instance import Instance, ServiceKey

WEB = ServiceKey("default", "default", "web")
INTERNAL = Actor(internal=True)


class CountingIds:
    """Names that a test can foresee."""

    def __init__(self) -> None:
        self._leases = count(1001)
        self._texts = count(1)

    def lease_id(self) -> int:
        return next(self._leases)

    def skip_leases(self, to: int) -> None:
        self._leases = count(to)

    def secret(self) -> str:
        return f"secret-{next(self._texts):016d}"

    def name(self) -> str:
        return f"name-{next(self._texts)}"


class World:
    """``run`` raises what decide refuses with."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.state = State()
        self.rules = rules or Rules()
        self.ids = CountingIds()
        self.now_ms = 1_000_000
        self.journal: list[bytes] = []
        self.changes: list[Changes] = []

    def context(self, actor: Actor = INTERNAL, node: str = "n1") -> Context:
        return Context(self.now_ms, self.ids, actor, self.rules, node)

    def decide(self, command: commands.Command, actor: Actor = INTERNAL, node: str = "n1") -> Decision | TownhallError:
        return decide(self.state, command, self.context(actor, node))

    def commit(self, facts: tuple[Any, ...], node: str = "n1") -> Changes:
        """Journal and apply; the journal's bytes must say all there is to say."""
        blob = encode_commit(Commit(0, self.now_ms, node, facts))
        self.journal.append(blob)
        commit = decode_commit(blob, self.state.position + 1)
        assert commit.facts == facts
        changes = evolve(self.state, commit)
        self.changes.append(changes)
        return changes

    def run(self, command: commands.Command, actor: Actor = INTERNAL, node: str = "n1") -> Any:
        decision = self.decide(command, actor, node)
        if isinstance(decision, TownhallError):
            raise decision
        if decision.facts:
            self.commit(decision.facts, node)
            self.state.check()
        return decision.result

    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @property
    def reader(self) -> Reader:
        return Reader(self.state, INTERNAL, self.rules)

    def register(self, id_: str, **fields: Any) -> commands.Registration:
        fields = {"key": WEB, "address": "127.0.0.1", "port": 80} | fields
        result = self.run(commands.Register(id=id_, **fields))
        assert isinstance(result, commands.Registration)
        return result

    def instance(self, id_: str, key: ServiceKey = WEB) -> Instance:
        return self.reader.instance(key, id_)

    def lapse(self, *ids: str, key: ServiceKey = WEB) -> None:
        """The leases of these instances pass their deadlines, in one command."""
        leases = [self.instance(id_, key).lease for id_ in ids]
        self.run(commands.LapseLeases(leases=tuple((lease, self.state.leases[lease].epoch) for lease in leases)))

    def sweep(self) -> None:
        self.run(commands.Sweep(count_max=1_000))

    def callable_ids(self, key: ServiceKey = WEB) -> list[str]:
        return [instance.id for instance in self.reader.instances(key, callable_only=True)]


def replay(journal: list[bytes]) -> State:
    """A state from nothing but the journal."""
    state = State()
    for position, blob in enumerate(journal, 1):
        evolve(state, decode_commit(blob, position))
    return state
