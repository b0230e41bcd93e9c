"""How often a client may ask: a token bucket for each. Pure: time is passed in."""

from __future__ import annotations

from collections import OrderedDict

from townhall.model.limits import PROXY_BUCKETS_MAX

__all__ = ["Buckets"]


class Buckets:
    """The buckets of one route: ``rate`` tokens a second each, ``burst`` at most saved up.

    A client is forgotten when its bucket is full again or, beyond ``PROXY_BUCKETS_MAX``, when it was unseen for longest;
    it then begins with a full one, so forgetting favours clients and never us.
    """

    def __init__(self, *, rate: float, burst: int = 0) -> None:
        self.retune(rate=rate, burst=burst)
        self._rows: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        """Client → tokens at a time."""

    def __len__(self) -> int:
        return len(self._rows)

    def retune(self, *, rate: float, burst: int = 0) -> None:
        """Another rate from now on; what clients have saved up stays theirs, up to the new burst."""
        self._rate = rate
        self._burst = float(max(1, burst or int(rate)))

    def take(self, client: bytes, *, now_s: float) -> float:
        """0.0 when the client may ask now, else in how many seconds it may."""
        tokens, since_s = self._rows.pop(client, (self._burst, now_s))
        tokens = min(self._burst, tokens + max(0.0, now_s - since_s) * self._rate)
        allowed = tokens >= 1.0
        self._rows[client] = (tokens - 1.0 if allowed else tokens, now_s)
        if len(self._rows) > PROXY_BUCKETS_MAX:
            self._rows.popitem(last=False)
        return 0.0 if allowed else (1.0 - tokens) / self._rate
