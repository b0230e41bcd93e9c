"""Deadlines of leases: a dictionary that renewals write to, and a lazy wheel that looks at it now and then.

A renewal stores one number. Each lease lies in exactly one bucket of the wheel, the one of the deadline it had when
it was filed; when that bucket is past, the lease is either over or filed again under the deadline it has by then. So
a lease costs one filing per TTL, however often it is renewed::

    file(7, 1000)      bucket 20: [7]      at {7: 1000}
    at[7] = 1600       bucket 20: [7]      at {7: 1600}       a renewal
    due(1100)          bucket 32: [7]      at {7: 1600}       not over: filed again
    due(1700)                              at {7: 1600}       over: handed to the caller

Nothing is filed further ahead than ``HORIZON_MS``, so what a forgotten lease leaves behind is gone within that time.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Deadlines"]

BUCKET_MS: Final = 50
"""How late a lapse may be noticed; it is never early."""
HORIZON_MS: Final = 60_000
"""A lease with a longer TTL is filed again once a minute, which costs nothing worth naming."""
NOWHERE: Final = -1


class Deadlines:
    """Which lease must be renewed by when. Times are milliseconds on any scale that never goes backwards."""

    __slots__ = ("_buckets", "_exact", "_next", "_open", "_open_number", "_orphans", "at")

    def __init__(self, now_ms: int) -> None:
        """Empty, from ``now_ms`` on."""
        self.at: dict[int, int] = {}
        """Lease to deadline. Renewals may store a later deadline of a lease that is filed, and nothing else."""
        self._buckets: dict[int, list[int]] = {}
        self._next = now_ms // BUCKET_MS
        self._open: list[int] = []
        """Rest of the bucket that is being worked off."""
        self._open_number = 0
        # A lease that was forgotten stays in its bucket until that is past. When it comes back before that, its old
        # entry must not count: `_exact` then says which entry is the right one.
        self._orphans: set[int] = set()
        self._exact: dict[int, int] = {}

    def file(self, lease: int, deadline_ms: int) -> None:
        """Set a deadline and put the lease in the wheel. It must not be in it already: use ``move`` then."""
        self.at[lease] = deadline_ms
        if lease in self._orphans:
            self._orphans.discard(lease)
            self._exact[lease] = NOWHERE
        self._put(lease, deadline_ms)

    def move(self, lease: int, deadline_ms: int) -> None:
        """Set an earlier deadline of a lease that is in the wheel."""
        self.at[lease] = deadline_ms
        self._exact[lease] = NOWHERE
        self._put(lease, deadline_ms)

    def lift(self, lease: int) -> None:
        """Take a lease out of the wheel but keep its deadline."""
        self._exact[lease] = NOWHERE

    def forget(self, lease: int, *, filed: bool) -> None:
        """The lease is gone; ``filed`` says whether it was still in the wheel."""
        self.at.pop(lease, None)
        if self._exact.pop(lease, None) is not None or filed:
            self._orphans.add(lease)

    def due(self, upto_ms: int, count_max: int) -> list[int]:
        """Take leases whose deadline is before ``upto_ms`` out of the wheel, after looking at ``count_max`` entries.

        They keep their entry in ``at``. The caller files each again or forgets it with ``filed=False``. A lease that
        came back several times within the horizon may be named twice.
        """
        over: list[int] = []
        at, exact, orphans = self.at, self._exact, self._orphans
        while count_max > 0:
            if not self._open and not self._turn(upto_ms):
                break
            number = self._open_number
            entries = self._open[-count_max:]
            del self._open[-count_max:]
            count_max -= len(entries)
            for lease in entries:
                if exact and exact.get(lease, number) != number:
                    continue  # An entry from before the lease ended and came back, or was moved.
                deadline_ms = at.get(lease)
                if deadline_ms is None:
                    orphans.discard(lease)
                elif deadline_ms >= upto_ms:
                    self._put(lease, deadline_ms)
                else:
                    if lease in exact:
                        exact[lease] = NOWHERE
                    over.append(lease)
        return over

    def __len__(self) -> int:
        return len(self.at)

    def _put(self, lease: int, deadline_ms: int) -> None:
        """File under the deadline, but neither in a bucket that is past nor beyond the horizon."""
        number = min(max(deadline_ms // BUCKET_MS, self._next), self._next + HORIZON_MS // BUCKET_MS)
        if lease in self._exact:
            self._exact[lease] = number
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = [lease]
        else:
            bucket.append(lease)

    def _turn(self, upto_ms: int) -> bool:
        """Open the next bucket that is past and holds something; False when there is none."""
        last = upto_ms // BUCKET_MS  # Exclusive: a bucket is past when its end is.
        if last - self._next > len(self._buckets):
            # After a leap it is cheaper to look for the next bucket than to count up to it.
            self._next = min((number for number in self._buckets if number < last), default=last)
        while self._next < last:
            number = self._next
            self._next += 1
            bucket = self._buckets.pop(number, None)
            if bucket is not None:
                self._open, self._open_number = bucket, number
                return True
        return False
