r"""Regular expressions that cannot be made slow: the subset of RE2's syntax that needs no backtracking.

Python's ``re`` tries alternatives one after the other, so ``(a+)+b`` on thirty letters takes minutes. Here a pattern
becomes a small program (Thompson's construction), and a text is read once with the set of all places in the program
that it could have come to. Sets that were seen before are kept with their successors, so that most characters cost
one look-up. Work beyond those look-ups is counted, and a pattern that needs too much of it is refused.

Known: literals, ``.``, classes, ``\d \w \s`` and their opposites (ASCII, as in RE2), groups, ``|``, ``* + ? {n} {n,}
{n,m}`` and their lazy forms, ``^ $ \A \z``, and ``(?i)`` at the start. Refused: back references, look-around, word
boundaries, and flags elsewhere.

A worked example, ``a|bc``: 0 split 1 3, 1 'a', 2 jump 5, 3 'b', 4 'c', 5 match.
"""

from __future__ import annotations

from typing import NamedTuple

from townhall.model import limits
from townhall.model.errors import InvalidField, TooLarge
from townhall.wire.regex_syntax import Alternation, Anchor, Characters, Node, Repetition, Sequence, parse

__all__ = ["Pattern"]

_SPLIT, _JUMP, _START, _END, _MATCH = "split", "jump", "start", "end", "match"
_STATES_KEPT_MAX = 512
_SUCCESSORS_KEPT_MAX = 8_192


class _Instruction(NamedTuple):
    kind: str
    first: int = 0
    second: int = 0


class _Reached:
    """A set of places in the program, and where each character leads from it."""

    __slots__ = ("matches", "matches_at_end", "places", "successors")

    def __init__(self, places: frozenset[int], *, matches: bool, matches_at_end: bool) -> None:
        self.places = places
        self.matches = matches
        self.matches_at_end = matches_at_end
        self.successors: dict[str, _Reached] = {}


class Pattern:
    """A compiled pattern. Raises InvalidField (``field`` as given) for one that is wrong, unknown or too large."""

    def __init__(self, pattern: str, field: str = "pattern") -> None:
        self._field = field
        self._program: list[_Instruction | Characters] = []
        self._emit(parse(pattern, field))
        self._append(_Instruction(_MATCH))
        self._work = 0
        self._states: dict[frozenset[int], _Reached] = {}
        self._successor_count = 0
        self._again = self._close([0], at_start=False)
        self._first = self._state(self._close([0], at_start=True), at_start=True)

    def search(self, text: str) -> bool:
        """Whether the pattern occurs in ``text``. Raises TooLarge when all searches together took too much work."""
        self._work += 1 + len(text) // 16
        state = self._first
        for character in text:
            if state.matches:
                return True
            state = state.successors.get(character) or self._step(state, character)
        return state.matches or state.matches_at_end

    def _step(self, state: _Reached, character: str) -> _Reached:
        self._work += len(state.places) + 1
        if self._work > limits.FILTER_WORK_MAX:
            raise TooLarge("the pattern takes too long to match", limit=limits.FILTER_WORK_MAX, field=self._field)
        following = []
        for place in state.places:
            instruction = self._program[place]
            if isinstance(instruction, Characters) and instruction.hold(character):
                following.append(place + 1)
        reached = self._state(self._close(following, at_start=False) | self._again)
        if self._successor_count < _SUCCESSORS_KEPT_MAX:
            self._successor_count += 1
            state.successors[character] = reached
        return reached

    def _state(self, places: frozenset[int], *, at_start: bool = False) -> _Reached:
        state = self._states.get(places)
        if state is None:
            at_end = self._close(list(places), at_start=at_start, at_end=True)
            matching = len(self._program) - 1
            state = _Reached(places, matches=matching in places, matches_at_end=matching in at_end)
            # The first one is not kept: in a text that has no end yet, the same places mean less.
            if not at_start and len(self._states) < _STATES_KEPT_MAX:
                self._states[places] = state
        return state

    def _close(self, places: list[int], *, at_start: bool, at_end: bool = False) -> frozenset[int]:
        """All places that can be come to from these without reading a character, where reading or the end waits."""
        seen: set[int] = set()
        waiting: set[int] = set()
        stack = places
        while stack:
            place = stack.pop()
            if place in seen:
                continue
            seen.add(place)
            self._work += 1
            instruction = self._program[place]
            if isinstance(instruction, Characters) or instruction.kind == _MATCH:
                waiting.add(place)
            elif instruction.kind == _JUMP:
                stack.append(instruction.first)
            elif instruction.kind == _SPLIT:
                stack.append(instruction.first)
                stack.append(instruction.second)
            elif instruction.kind == _START:
                if at_start:
                    stack.append(place + 1)
            elif at_end:
                stack.append(place + 1)
            else:
                waiting.add(place)
        return frozenset(waiting)

    def _append(self, instruction: _Instruction | Characters) -> int:
        if len(self._program) >= limits.FILTER_PROGRAM_MAX:
            raise InvalidField(self._field, "the pattern is too large once its repetitions are written out")
        self._program.append(instruction)
        return len(self._program) - 1

    def _emit(self, node: Node) -> None:
        if isinstance(node, Characters):
            self._append(node)
        elif isinstance(node, Anchor):
            self._append(_Instruction(_START if node.start else _END))
        elif isinstance(node, Sequence):
            for part in node.parts:
                self._emit(part)
        elif isinstance(node, Alternation):
            self._emit_alternation(node)
        else:
            self._emit_repetition(node)

    def _emit_alternation(self, node: Alternation) -> None:
        jumps = []
        for part in node.parts[:-1]:
            split = self._append(_Instruction(_SPLIT))
            self._emit(part)
            jumps.append(self._append(_Instruction(_JUMP)))
            self._program[split] = _Instruction(_SPLIT, split + 1, len(self._program))
        self._emit(node.parts[-1])
        for jump in jumps:
            self._program[jump] = _Instruction(_JUMP, len(self._program))

    def _emit_repetition(self, node: Repetition) -> None:
        for _ in range(node.count_min):
            before = len(self._program)
            self._emit(node.part)
            if len(self._program) == before:  # It holds nothing, however often.
                return
        if node.count_max is None:
            split = self._append(_Instruction(_SPLIT))
            self._emit(node.part)
            self._append(_Instruction(_JUMP, split))
            self._program[split] = _Instruction(_SPLIT, split + 1, len(self._program))
            return
        splits = []
        for _ in range(node.count_max - node.count_min):
            splits.append(self._append(_Instruction(_SPLIT)))
            self._emit(node.part)
        for split in splits:
            self._program[split] = _Instruction(_SPLIT, split + 1, len(self._program))
