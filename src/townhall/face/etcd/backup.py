"""A backup of the space for ``etcdctl snapshot save``, and hashes over it.

``etcdctl`` verifies nothing but that the file's length, modulo 512, leaves the 32 bytes of a SHA-256, so any content
will do for saving. A file of bbolt's, which ``etcdutl snapshot restore`` reads, is out of reach: this is a format of our
own, which only Townhall reads back (``read_backup``), and it begins with a line that says so::

    townhall backup of the etcd space, format 1 and a line feed
    (length in 4 bytes, MessagePack of one record of Keyspace.dump)*
    zero bytes up to a multiple of 512
    SHA-256 of all before
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from townhall.model.errors import Damaged
from townhall.model.keys import KeyValue
from townhall.model.limits import SNAPSHOT_PIECE_SIZE

__all__ = ["HEAD", "Backup", "hash_records", "read_backup"]

HEAD: Final = b"townhall backup of the etcd space, format 1\n"
_BLOCK: Final = 512
_encode = msgspec.msgpack.Encoder().encode


class Backup:
    """Draws the records and gives them in pieces."""

    def __init__(self, records: Iterator[Sequence[object]], *, estimated: int) -> None:
        """``estimated``: how many bytes there will be, as far as anybody knows before."""
        self._records = records
        self._held = bytearray(HEAD)
        self._digest = hashlib.sha256()
        self._sent = 0
        self._estimated = estimated
        self._drawn = False
        self.finished = False
        """The last piece has been given."""

    def next(self) -> tuple[bytes, int]:
        """The next piece, and about how many bytes remain before the checksum; exactly, once they are known."""
        assert not self.finished
        while len(self._held) < SNAPSHOT_PIECE_SIZE and not self._drawn:
            self._draw()
        if not self._held:
            self.finished = True
            return self._digest.digest(), 0
        piece = bytes(self._held[:SNAPSHOT_PIECE_SIZE])
        del self._held[:SNAPSHOT_PIECE_SIZE]
        self._digest.update(piece)
        self._sent += len(piece)
        if self._drawn:
            return piece, len(self._held)
        return piece, max(self._estimated - self._sent, len(self._held), 1)

    def _draw(self) -> None:
        record = next(self._records, None)
        if record is not None:
            data = _encode(record)
            self._held += len(data).to_bytes(4, "big") + data
            return
        self._drawn = True
        self._held += bytes(-(self._sent + len(self._held)) % _BLOCK)


def read_backup(data: bytes) -> Iterator[Sequence[Any]]:
    """The records of a backup. Raises Damaged when it is not a whole one."""
    size = hashlib.sha256().digest_size
    body, digest = data[:-size], data[-size:]
    if not body.startswith(HEAD) or hashlib.sha256(body).digest() != digest:
        raise Damaged("this is no backup of the etcd space, or not a whole one")
    at = len(HEAD)
    while at + 4 <= len(body):
        length = int.from_bytes(body[at : at + 4], "big")
        if not length:
            return
        yield msgspec.msgpack.decode(body[at + 4 : at + 4 + length])
        at += 4 + length


def hash_records(records: Iterator[Sequence[Any]], revision: int) -> int:
    """CRC-32 over the keys as they were at a revision, in their order: the same for the same content."""
    present: dict[bytes, KeyValue] = {}
    for kind, *rest in records:
        if kind == "keys":
            present.update((kv.key, kv) for kv in rest[0])
        elif kind == "events":
            for event in rest[0]:
                _apply(present, event, revision)
    found = zlib.crc32(HEAD)
    for key in sorted(present):
        found = zlib.crc32(_encode(present[key]), found)
    return found


def _apply(present: dict[bytes, KeyValue], event: Any, revision: int) -> None:
    """An event is the value it left, or the key and the revision of a delete."""
    if isinstance(event, KeyValue):
        if event.mod_revision <= revision:
            present[event.key] = event
    elif event[1] <= revision:
        present.pop(event[0], None)
