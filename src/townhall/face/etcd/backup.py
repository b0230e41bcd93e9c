"""A backup of the space for ``etcdctl snapshot save``, and hashes over it.

``etcdctl`` verifies nothing but that the file's length, modulo 512, leaves the 32 bytes of a SHA-256, so any content
will do for saving. A file of bbolt's, which ``etcdutl snapshot restore`` reads, is out of reach: this is a format of our
own, which only Townhall reads back (``townhall restore``), and it begins with a line that says so::

    townhall backup of the etcd space, format 2 and a line feed
    (length in 4 bytes, one chunk of core.codec.dump_space)*
    zero bytes up to a multiple of 512
    SHA-256 of all before
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from townhall.model.errors import Damaged
from townhall.model.keys import KeyValue
from townhall.model.limits import SNAPSHOT_PIECE_SIZE

__all__ = ["HEAD", "Backup", "hash_records", "read_backup"]

HEAD: Final = b"townhall backup of the etcd space, format 2\n"
_BLOCK: Final = 512
_DIGEST_SIZE: Final = 32
_encode = msgspec.msgpack.Encoder().encode


class Backup:
    """Draws the chunks and gives them in pieces."""

    def __init__(self, chunks: Iterator[bytes], *, estimated: int) -> None:
        """``estimated``: how many bytes there will be, as far as anybody knows before."""
        self._chunks = chunks
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
        chunk = next(self._chunks, None)
        if chunk is not None:
            self._held += len(chunk).to_bytes(4, "big") + chunk
            return
        self._drawn = True
        self._held += bytes(-(self._sent + len(self._held)) % _BLOCK)


def read_backup(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks of a backup that comes in pieces. Raises Damaged when it is not a whole one, at the end at the latest:
    whoever wants to know it is reads it twice.
    """
    source, held, digest = iter(pieces), bytearray(), hashlib.sha256()

    def have(size: int) -> bool:
        """Whether so much is there before the checksum."""
        while len(held) < size + _DIGEST_SIZE:
            piece = next(source, b"")
            if not piece:
                return False
            held.extend(piece)
        return True

    def take(size: int) -> bytes:
        taken = bytes(held[:size])
        del held[:size]
        digest.update(taken)
        return taken

    whole = have(len(HEAD)) and take(len(HEAD)) == HEAD
    while whole and have(4) and (size := int.from_bytes(take(4), "big")):
        whole = have(size)
        if whole:
            yield take(size)
    while whole and have(1):
        whole = not any(take(len(held) - _DIGEST_SIZE))
    if not whole or bytes(held) != digest.digest():
        raise Damaged("this is no backup of the etcd space, or not a whole one")


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
