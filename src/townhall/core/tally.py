"""Counts of instances by how they bear on the removal floor, kept in step in O(1) per change."""

from __future__ import annotations

import msgspec

from townhall.model import limits
from townhall.model.instance import CLEAR, PROBED, Evidence, Instance, Verdict

__all__ = ["Tally", "settled"]

_UP = Verdict.UP  # Looking a member up in its enumeration costs more than all else in ``replace``.


def _clear(evidence: Evidence) -> bool:
    return evidence is CLEAR or evidence is PROBED


def settled(instance: Instance) -> bool:
    """Somebody's word (the operator's or its own) keeps it from being called, so nobody expects it to be callable.

    Silence does not change this, whatever the verdict says meanwhile.
    """
    evidence = instance.evidence
    if evidence.override is not None:
        return evidence.override is not _UP
    return not instance.enabled or not instance.ready or evidence.draining_at != 0 or evidence.maintenance != ""


class Tally(msgspec.Struct, gc=False, eq=False):
    """Counts over a set of instances.

    ``callable`` includes ``held``; ``expected`` leaves out what is settled; ``silent`` have lost lease or connection.
    """

    callable: int = 0
    expected: int = 0
    silent: int = 0
    held: int = 0
    gone: dict[object, int] | None = None
    """Instance → when it was removed for silence (Unix milliseconds), oldest first."""

    def replace(self, before: Instance | None, after: Instance | None) -> None:
        """Count ``after`` instead of ``before``."""
        if after is not None and after.verdict is _UP and _clear(after.evidence):  # nearly always
            if before is None:
                self.callable += 1
                self.expected += 1
                return
            if before.verdict is _UP and _clear(before.evidence):
                return
        if before is not None:
            self._count(before, -1)
        if after is not None:
            self._count(after, 1)

    def _count(self, instance: Instance, by: int) -> None:
        evidence = instance.evidence
        if instance.callable:
            self.callable += by
        if not settled(instance):
            self.expected += by
        if evidence.lapsed_at or evidence.disconnected_at:
            self.silent += by
        if evidence.held:
            self.held += by

    def note_gone(self, name: object, now_ms: int) -> None:
        """An instance was removed for silence; old entries make room."""
        if self.gone is None:
            self.gone = {}
        gone = self.gone
        gone.pop(name, None)  # to the end: the oldest stay first
        gone[name] = now_ms
        self.forget_gone(now_ms - limits.FLOOR_WINDOW_MS)

    def note_back(self, name: object) -> None:
        """An instance is there (again), so it is not counted twice."""
        if self.gone is not None and self.gone.pop(name, None) is not None and not self.gone:
            self.gone = None

    def forget_gone(self, until_ms: int) -> None:
        """Drop what was removed at ``until_ms`` or before."""
        gone = self.gone
        if gone is None:
            return
        old = []
        for name, at_ms in gone.items():
            if at_ms > until_ms:
                break
            old.append(name)
        for name in old:
            del gone[name]
        if not gone:
            self.gone = None

    def gone_since(self, after_ms: int) -> int:
        """How many were removed for silence after ``after_ms``."""
        gone = self.gone
        if gone is None:
            return 0
        count = len(gone)
        for at_ms in gone.values():
            if at_ms > after_ms:
                break
            count -= 1
        return count

    def copy(self) -> Tally:
        """A copy that may be changed without the original noticing."""
        return Tally(
            self.callable, self.expected, self.silent, self.held, None if self.gone is None else self.gone.copy()
        )
