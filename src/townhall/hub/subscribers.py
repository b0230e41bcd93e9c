"""Who watches what, and how far each has come: soft state that answers "has everybody seen this?".

A row per subscriber and service. ``sent`` moves when the kernel took bytes, ``acked`` when the subscriber says that
it has applied them; one that cannot say so counts as having applied what it was sent. A drain is over when no row
of its service is behind the drain's revision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from townhall.core.live import Subscriber
from townhall.model.instance import ServiceKey

__all__ = ["Row", "Subscribers"]


class Row:
    """One subscriber with the services it watches; implements ``hub.Subscription``."""

    __slots__ = ("_table", "id", "services")

    def __init__(self, table: Subscribers, id_: str, services: dict[ServiceKey, Subscriber]) -> None:
        self._table = table
        self.id = id_
        self.services = services

    def sent(self, revisions: Mapping[tuple[str, str, str], int]) -> None:
        """The kernel took bytes that bring the peer to these revisions."""
        self._table.move(self, revisions, explicit=False)

    def close(self) -> None:
        """It is gone; idempotent."""
        self._table.remove(self)


class Subscribers:
    """The table. ``changed`` is called with each service whose acknowledgements moved, or that lost a subscriber."""

    __slots__ = ("_by_id", "_by_service", "_changed")

    def __init__(self, changed: Callable[[ServiceKey], None]) -> None:
        self._changed = changed
        self._by_id: dict[str, list[Row]] = {}
        self._by_service: dict[ServiceKey, dict[Row, Subscriber]] = {}

    def add(self, subscriber: Subscriber, services: Iterable[tuple[str, str, str]]) -> Row:
        """Enter a subscriber. Several may have one id: a client that reconnects before its old stream is closed."""
        row = Row(self, subscriber.id, {ServiceKey(*key): msgspec.structs.replace(subscriber) for key in services})
        self._by_id.setdefault(row.id, []).append(row)
        for key, entry in row.services.items():
            self._by_service.setdefault(key, {})[row] = entry
        return row

    def remove(self, row: Row) -> None:
        """Take a subscriber out; idempotent."""
        rows = self._by_id.get(row.id)
        if rows is None or row not in rows:
            return
        rows.remove(row)
        if not rows:
            del self._by_id[row.id]
        for key in row.services:
            entries = self._by_service[key]
            del entries[row]
            if not entries:
                del self._by_service[key]
            self._changed(key)

    def move(self, row: Row, revisions: Mapping[tuple[str, str, str], int], *, explicit: bool) -> None:
        """Note revisions that were sent (or, when ``explicit``, acknowledged). Numbers never go back."""
        for key, revision in revisions.items():
            entry = row.services.get(ServiceKey(*key))
            if entry is None:
                continue
            if explicit:
                entry.explicit = True
            else:
                entry.sent = max(entry.sent, revision)
            if revision > entry.acked and (explicit or not entry.explicit):
                entry.acked = revision
                self._changed(ServiceKey(*key))

    def acknowledge(self, id_: str, revisions: Mapping[tuple[str, str, str], int]) -> bool:
        """A subscriber has applied these services up to these revisions; False when it is not known."""
        rows = self._by_id.get(id_)
        if rows is None:
            return False
        for row in rows:
            self.move(row, revisions, explicit=True)
        return True

    def of(self, key: ServiceKey) -> Sequence[Subscriber]:
        """Everybody who watches a service, the longest first. The rows are live: read them, do not keep them."""
        return list(self._by_service.get(key, {}).values())

    def behind(self, key: ServiceKey, revision: int) -> Sequence[Subscriber]:
        """Who has not acknowledged ``revision`` of a service yet: whom a drain still waits for."""
        return [entry for entry in self._by_service.get(key, {}).values() if entry.acked < revision]

    def count(self, key: ServiceKey) -> int:
        """How many watch a service."""
        return len(self._by_service.get(key, ()))

    def __len__(self) -> int:
        return sum(map(len, self._by_id.values()))
