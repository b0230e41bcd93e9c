"""The decision about ``Together``: several commands, one commit.

They are decided side by side against the state before, exactly as the commands of a group commit are, and for the
same reason that is as good as one after the other: their claims do not meet. So a commit of several commands needs no
rules of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from townhall.core import Changes, Context, Decision, Fact, Unsettled, commands
from townhall.core.claims import Claims
from townhall.core.footprint import within_together
from townhall.core.state import State
from townhall.core.transaction import Unnumbered
from townhall.model import limits
from townhall.model.errors import Conflict, InvalidField

__all__ = ["decide_together"]

Table = Mapping[type, Callable[[State, Any, Context], Decision]]


class _Unsettled(Unsettled, frozen=True):
    """The results of all, some of which hold numbers that only ``evolve`` gives."""

    results: tuple[object, ...]

    def settle(self, changes: Changes) -> object:
        """Each result, settled."""
        return tuple(one.settle(changes) if isinstance(one, Unsettled) else one for one in self.results)


def decide_together(state: State, command: commands.Together, context: Context, table: Table) -> Decision:
    """All of the commands, or the first refusal."""
    _guard(state, command)
    for expected in command.expected:
        _guard_expected(state, expected)
    decided: list[Fact] = []
    results: list[object] = []
    for one in command.commands:
        decision = table[type(one)](state, one, context)
        if isinstance(decision.result, Unnumbered | commands.TransactResult) and not decision.result.succeeded:
            raise Conflict("a key is not what the transaction expects", advice="read it again")
        decided += decision.facts
        results.append(decision.result)
    if any(isinstance(one, Unsettled) for one in results):
        return Decision(tuple(decided), _Unsettled(tuple(results)))
    return Decision(tuple(decided), tuple(results))


def _guard(state: State, command: commands.Together) -> None:
    """What may stand together: no two that touch the same thing, and ends of nodes before all else."""
    size = len(command.commands) + len(command.expected)
    if size > limits.TOGETHER_COUNT_MAX:
        raise InvalidField("commands", f"{size} commands and expectations, at most {limits.TOGETHER_COUNT_MAX}")
    claims = Claims()
    ends = True
    for one in command.commands:
        if isinstance(one, commands.Together):
            raise InvalidField("commands", "must not be nested")
        if isinstance(one, commands.DeleteNode) and not ends:
            raise InvalidField("commands", "nodes are deleted first")
        ends = isinstance(one, commands.DeleteNode)
        if not claims.admit(within_together(state, one)):
            raise InvalidField("commands", "two of them touch the same thing", advice="use one command for each")


def _guard_expected(state: State, expected: commands.Expected) -> None:
    book = state.book
    found: Any
    if expected.check:
        found = book.checks.get((expected.node, expected.check))
    elif expected.instance:
        key = book.places.get(expected.node, {}).get(expected.instance)
        found = None if key is None else state.services[key].instances[expected.instance]
    else:
        found = book.nodes.get(expected.node)
    revision = 0 if found is None else found.revision
    if revision != expected.revision:
        what = expected.check or expected.instance or expected.node
        raise Conflict(f"{what!r} has changed meanwhile", advice="read it again", revision=revision)
