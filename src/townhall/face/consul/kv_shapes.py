"""What Consul's key/value answers look like, and what their index is: pure functions over the keyspace ``consul``.

Index: a key's own ``ModifyIndex`` is the revision of its last write in the space; that of a range is the revision of
the last write or delete in it, so a write elsewhere does not move it. Where nothing is found it is the space's
revision: whatever is written there later has a larger one.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from townhall.core.queries import Reader
from townhall.model import limits
from townhall.model.errors import Compacted, InvalidField, TooLarge
from townhall.model.keys import KeyValue

__all__ = ["SPACE", "changed_since", "cut_keys", "entry", "key_bytes", "prefix_span", "range_index"]

SPACE = "consul"


def key_bytes(key: str) -> bytes:
    """A key's bytes. Raises InvalidField, TooLarge."""
    try:
        # Escapes in a path that are not UTF-8 come as surrogates; they stand for the bytes themselves.
        data = key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidField("key", "is not valid text") from error
    if len(data) > limits.KEY_SIZE_MAX:
        raise TooLarge(f"key: longer than {limits.KEY_SIZE_MAX} bytes", field="key", limit=limits.KEY_SIZE_MAX)
    return data


def key_text(key: bytes) -> str:
    """A key as text; bytes that are not UTF-8 are replaced, as Go's JSON encoder does it."""
    return key.decode("utf-8", "replace")


def prefix_span(prefix: bytes) -> tuple[bytes, bytes]:
    """The range of the keys that begin with ``prefix``; the empty one begins all keys."""
    kept = prefix.rstrip(b"\xff")
    if not kept:
        return prefix or b"\0", b"\0"
    return prefix, kept[:-1] + bytes((kept[-1] + 1,))


def entry(kv: KeyValue, *, value: bool = True) -> dict[str, object]:
    """A key as Consul shows it. An empty value is null; ``Session`` is there only while the key is locked."""
    shown: dict[str, object] = {
        "LockIndex": kv.lock_index,
        "Key": key_text(kv.key),
        "Flags": kv.flags,
        "Value": base64.b64encode(kv.value).decode() if value and kv.value else None,
    }
    if kv.session:
        shown["Session"] = kv.session
    shown["CreateIndex"] = kv.create_revision
    shown["ModifyIndex"] = kv.mod_revision
    return shown


def cut_keys(keys: Sequence[bytes], prefix: bytes, separator: bytes) -> list[str]:
    """The keys, each cut behind the first separator after the prefix, and each result once."""
    if not separator:
        return [key_text(key) for key in keys]
    cut: dict[bytes, None] = {}
    size = len(prefix)
    for key in keys:
        at = key.find(separator, size)
        cut[key if at < 0 else key[: at + len(separator)]] = None
    return [key_text(key) for key in cut]


def range_index(reader: Reader, start: bytes, end: bytes, kvs: Sequence[KeyValue]) -> int:
    """The index of a range (an empty ``end``: of one key) in which ``kvs`` were found."""
    if not kvs:
        return reader.space_revision(SPACE)
    newest = max([kv.mod_revision for kv in kvs])
    if not end:
        return newest
    try:
        later = reader.key_events(SPACE, start, end, newest)
    except Compacted:
        # Deletes up to here are forgotten, and they cannot have been later.
        return max(newest, reader.space_compacted(SPACE))
    return later[-1].revision if later else newest


def changed_since(reader: Reader, start: bytes, end: bytes, index: int) -> bool:
    """Whether a range that has nothing now was touched after ``index``; yes, when that is not known any more."""
    if index >= reader.space_revision(SPACE):
        return False
    try:
        return bool(reader.key_events(SPACE, start, end, index, limit=1))
    except Compacted:
        return True
