"""Could these concurrent operations have happened one after the other? A checker for recorded histories.

A history is a list of ``Operation``: who called what, when it began and ended, and what came out. It is linearizable
when every operation can be given one moment between its call and its return so that, in the order of these moments, a
sequential model gives exactly the results that were seen. An operation whose outcome nobody learned (the connection
broke) has ``returned=FOREVER``: it may have happened at any time after its call, or not at all.

The search is Wing and Gong's with Lowe's memory of configurations: what is already placed (a bit mask) together with
the state of the model. A configuration that was reached before is not explored again. Histories of independent keys
are checked one by one (``check_each``): a whole is linearizable exactly when its parts are (Herlihy and Wing, 1990).

    history = [Operation(0.0, 1.0, "write", 1, None), Operation(2.0, 3.0, "read", None, 0)]
    assert not check(history, REGISTER).linearizable

A model says what may follow: ``step(state, operation)`` gives the next state, or ``REFUSED`` when this state cannot
have given that result. States must be hashable. ``result`` of an operation with an unknown outcome is ``UNKNOWN``;
models let it match anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

__all__ = [
    "FOREVER", "LOCK", "REFUSED", "REGISTER", "UNKNOWN", "Model", "Operation", "Undecided", "Verdict", "check",
    "check_each", "matches",
]  # fmt: skip

FOREVER = math.inf
CONFIGURATIONS_MAX = 2_000_000
"""Beyond it the search gives up with ``Undecided``: a test must end, and say that it proved nothing."""


class _Mark:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


REFUSED = _Mark("REFUSED")
"""What ``step`` gives when the state cannot have led to the result."""
UNKNOWN = _Mark("UNKNOWN")
"""The result of an operation that nobody heard the end of."""


class Operation(NamedTuple):
    """One call of one client."""

    called: float
    returned: float
    """``FOREVER`` when the outcome is unknown."""
    name: str
    argument: Any = None
    result: Any = None
    client: str = ""
    """For people who read a failure; the checker does not look at it."""


class Model(NamedTuple):
    """A sequential specification."""

    initial: Hashable
    step: Callable[[Any, Operation], Any]


class Verdict(NamedTuple):
    """What the search found."""

    linearizable: bool
    placed: tuple[Operation, ...]
    """An order that explains the history, or the longest beginning of one that was found."""
    stuck: tuple[Operation, ...] = ()
    """When there is none: what could come next after ``placed``, and none of it fits."""


class Undecided(Exception):
    """The search would have taken too long."""


def matches(operation: Operation, result: Any) -> bool:
    """Whether this is what was seen, or nothing was."""
    return operation.result is UNKNOWN or operation.result == result


def check(history: Iterable[Operation], model: Model, *, configurations_max: int = CONFIGURATIONS_MAX) -> Verdict:
    """Search for an order. Raises ``Undecided`` beyond ``configurations_max``."""
    return _Search(sorted(history, key=lambda each: each.called), model, configurations_max).run()


def check_each(
    history: Iterable[Operation], model: Model, part: Callable[[Operation], Hashable], **options: int
) -> Verdict:
    """``check`` for each part (each key, each lock); the first verdict that is bad, else the last good one."""
    parts: dict[Hashable, list[Operation]] = {}
    for operation in history:
        parts.setdefault(part(operation), []).append(operation)
    verdict = Verdict(True, ())
    for operations in parts.values():
        verdict = check(operations, model, **options)
        if not verdict.linearizable:
            break
    return verdict


class _Search:
    """Depth first over the choices of what comes next.

    Of the operations that are not placed, those may come next that were called before any of them returned: whatever
    returned earlier must stand earlier. ``todo`` is kept in order of calls, so the candidates are its beginning.
    """

    def __init__(self, operations: Sequence[Operation], model: Model, configurations_max: int) -> None:
        self._operations = operations
        self._model = model
        self._configurations_max = configurations_max
        count = len(operations)
        # A doubly linked list of what is not placed, in order of calls, with a sentinel at ``count``.
        self._after = [*range(1, count + 1), 0]
        self._before = [count, *range(count)]

    def run(self) -> Verdict:
        """Place all that returned. What never returned may stay out."""
        left = sum(each.returned != FOREVER for each in self._operations)
        state, mask = self._model.initial, 0
        seen: set[tuple[int, Hashable]] = {(mask, state)}
        path: list[tuple[int, Hashable, list[int]]] = []  # placed, the state before it, what else could have come
        best: list[int] = []
        choices = self._candidates()
        while left:
            chosen = self._next(choices, state, mask, seen)
            if chosen is not None:
                index, following = chosen
                path.append((index, state, choices))
                state, mask = following, mask | 1 << index
                left -= self._operations[index].returned != FOREVER
                self._unlink(index)
                if len(path) > len(best):
                    best = [each[0] for each in path]
                choices = self._candidates()
            elif path:
                index, state, choices = path.pop()
                mask &= ~(1 << index)
                left += self._operations[index].returned != FOREVER
                self._relink(index)
            else:
                return self._stuck(best)
        return Verdict(True, tuple(self._operations[each[0]] for each in path))

    def _next(
        self, choices: list[int], state: Hashable, mask: int, seen: set[tuple[int, Hashable]]
    ) -> tuple[int, Hashable] | None:
        while choices:
            index = choices.pop()
            following = self._model.step(state, self._operations[index])
            configuration = (mask | 1 << index, following)
            if following is not REFUSED and configuration not in seen:
                if len(seen) >= self._configurations_max:
                    raise Undecided(f"{len(seen)} configurations of {len(self._operations)} operations")
                seen.add(configuration)
                return index, following
        return None

    def _candidates(self) -> list[int]:
        """What may come next; the one called first is last in the list, as it is taken from the end."""
        found: list[int] = []
        index, earliest = self._after[-1], FOREVER
        while index < len(self._operations) and self._operations[index].called <= earliest:
            found.append(index)
            earliest = min(earliest, self._operations[index].returned)
            index = self._after[index]
        found.reverse()
        return found

    def _unlink(self, index: int) -> None:
        self._after[self._before[index]] = self._after[index]
        self._before[self._after[index]] = self._before[index]

    def _relink(self, index: int) -> None:
        self._after[self._before[index]] = index
        self._before[self._after[index]] = index

    def _stuck(self, best: list[int]) -> Verdict:
        for index in best:
            self._unlink(index)
        return Verdict(
            False,
            tuple(self._operations[index] for index in best),
            tuple(self._operations[index] for index in reversed(self._candidates())),
        )


# --- models


def _register(state: Any, operation: Operation) -> Any:
    match operation.name:
        case "read":
            return state if matches(operation, state) else REFUSED
        case "write":
            return operation.argument if matches(operation, None) else REFUSED
        case "cas":
            old, new = operation.argument
            swapped = state == old
            return (new if swapped else state) if matches(operation, swapped) else REFUSED
    raise ValueError(operation.name)


REGISTER = Model(None, _register)
"""``read`` → value, ``write`` value → None, ``cas`` (old, new) → whether it swapped."""


def _lock(holder: Any, operation: Operation) -> Any:
    who = operation.argument
    match operation.name:
        case "acquire":
            got = holder in (None, who)
            return (who if got else holder) if matches(operation, got) else REFUSED
        case "release" | "end":
            held = holder == who
            # The end of a session lets go of what it held, and says nothing about it.
            fits = operation.name == "end" or matches(operation, held)
            return (None if held else holder) if fits else REFUSED
        case "holder":
            return holder if matches(operation, holder) else REFUSED
    raise ValueError(operation.name)


LOCK = Model(None, _lock)
"""``acquire`` who → bool (true again for the holder), ``release`` who → bool, ``holder`` → who, ``end`` who."""
