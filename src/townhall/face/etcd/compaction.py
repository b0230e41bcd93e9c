"""Compacting by itself: when how much of the history is forgotten.

Two ways, as with etcd's ``--auto-compaction-mode``: keep so many revisions, or keep what is younger than so long. Both
may be asked for; then what either would keep is kept.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["LOOK_MS", "Compaction"]

LOOK_MS: Final = 300_000
"""How often to look; etcd's interval of the mode ``revision``. A shorter retention is looked at more often."""
_SAMPLES_COUNT: Final = 10
"""Looks in one retention: what is forgotten is at most a tenth older than asked for."""
_LOOK_MIN_MS: Final = 1_000


class Compaction:
    """The policy of one space. ``look`` is called every ``every_ms``."""

    __slots__ = ("_keep_ms", "_keep_revisions", "_seen", "every_ms")

    def __init__(self, *, keep_revisions: int, keep_ms: int) -> None:
        """0 leaves one of them out; with neither, nothing is ever forgotten."""
        self._keep_revisions = keep_revisions
        self._keep_ms = keep_ms
        self._seen: deque[tuple[int, int]] = deque()
        """When which revision was the latest, oldest first."""
        self.every_ms = max(min(LOOK_MS, keep_ms // _SAMPLES_COUNT) if keep_ms else LOOK_MS, _LOOK_MIN_MS)

    def look(self, now_ms: int, revision: int) -> int:
        """The revision before which the history can go; 0 when nothing can."""
        upto: list[int] = []
        if self._keep_revisions:
            upto.append(revision - self._keep_revisions)
        if self._keep_ms:
            upto.append(self._old(now_ms, revision))
        return max(min(upto), 0) if upto else 0

    def _old(self, now_ms: int, revision: int) -> int:
        """The revision that was the latest a retention ago."""
        seen = self._seen
        seen.append((now_ms, revision))
        while len(seen) > 1 and seen[1][0] <= now_ms - self._keep_ms:
            seen.popleft()
        at_ms, then = seen[0]
        return then if at_ms <= now_ms - self._keep_ms else 0
