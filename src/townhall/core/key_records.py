"""The records of a keyspace in a snapshot: its keys as they were before the oldest event held, then the events.

A record of keys or events is ``(kind, list)``. Keys are ``KeyValue``; so are events that put one, and a delete is the
key and its revision, which a put has in its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, Literal

import msgspec

from townhall.core.history import Entry
from townhall.model.keys import KeyEvent, KeyValue

__all__ = ["Head", "key_value", "read_record", "records"]

Head = tuple[str, str, int, int, int, object]
"""``space``, its name, revision, compacted revision, the oldest revision held, and delays of locks."""
_RECORD_COUNT: Final = 512
_RECORD_SIZE: Final = 1_048_576
"""A record is closed at this many keys or bytes."""
_Fields = KeyValue | tuple[bytes, int]
_usual = msgspec.msgpack.Decoder(tuple[Literal["keys", "events"], list[KeyValue]]).decode


def records(head: Head, live: list[KeyValue], entries: list[Entry]) -> Iterator[Sequence[object]]:
    """What ``Keyspace.dump`` gives.

    The keys before the oldest entry are those that no entry has touched, and those that the first entry to touch
    them found there. A value that an entry made has a revision of at least the first entry's, so no set of keys
    seen is needed to know them.
    """
    first = head[4]
    yield head
    found = (event.before for event in _flat(entries))
    keys = (kv for kv in chain(live, found) if kv is not None and kv.mod_revision < first)
    for part in _parts(keys):
        yield ("keys", part)
    for part in _parts(event.after or (event.key, event.revision) for event in _flat(entries)):
        yield ("events", part)
    yield ("end",)


def read_record(data: bytes | memoryview) -> Sequence[Any]:
    """One record from its MessagePack. Raises ``msgspec.MsgspecError``."""
    try:
        # Nearly all are keys or puts alone, and they are made at once.
        return _usual(data)
    except msgspec.ValidationError:
        found: Sequence[Any] = msgspec.msgpack.decode(data)
        return found


def key_value(fields: Any) -> KeyValue:
    """A key of a record, however it was read."""
    return fields if type(fields) is KeyValue else KeyValue(*fields)


def _flat(entries: Iterable[Entry]) -> Iterator[KeyEvent]:
    for entry in entries:
        if isinstance(entry, tuple):
            yield from entry
        else:
            yield entry


def _parts(items: Iterable[_Fields]) -> Iterator[list[_Fields]]:
    part: list[_Fields] = []
    size = 0
    for item in items:
        part.append(item)
        if isinstance(item, KeyValue):
            size += len(item.value)
        if len(part) >= _RECORD_COUNT or size >= _RECORD_SIZE:
            yield part
            part, size = [], 0
    if part:
        yield part
