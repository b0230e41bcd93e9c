"""Consul's snapshot archive: a gzipped tar of ``meta.json``, ``state.bin`` and ``SHA256SUMS``.

Its own command line checks the sums when it saves and restores, and when it inspects reads ``state.bin`` as a header
and records of one type byte and one MessagePack value each. Ours have one type, which Consul does not know and says
so, and each value is a chunk of this registry's own snapshot.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import zlib
from typing import Final, NamedTuple

import msgspec

__all__ = ["BadSnapshot", "Unpacked", "meta", "padding", "record", "state_head", "sums", "tar_head", "unpack"]

STATE, META, SUMS = "state.bin", "meta.json", "SHA256SUMS"
_TYPE: Final = 120
"""Of our records: below the bit for what may be ignored, above all that Consul uses."""
_BLOCK: Final = 512
_GZIP: Final = 31
"""zlib's word for gzip with the largest window."""
_encode = msgspec.msgpack.Encoder().encode


class BadSnapshot(Exception):
    """The bytes are no archive of this registry."""


class Unpacked(NamedTuple):
    """What is in an archive."""

    last_index: int
    chunks: tuple[bytes, ...]


# --- writing


def state_head(index: int) -> bytes:
    """How ``state.bin`` begins."""
    return _encode({"LastIndex": index, "Townhall": 1})


def record(chunk: bytes) -> bytes:
    """One chunk within ``state.bin``."""
    return bytes((_TYPE,)) + _encode(chunk)


def meta(*, index: int, size: int, node_id: str, address: str) -> bytes:
    """``meta.json``; ``size`` is that of ``state.bin``."""
    server = {"Suffrage": 0, "ID": node_id, "Address": address}
    shown = {
        "Version": 1, "ID": f"2-{index}-{size}", "Index": index, "Term": 2, "Peers": base64.b64encode(b"\x90").decode(),
        "Configuration": {"Servers": [server]}, "ConfigurationIndex": 1, "Size": size,
    }  # fmt: skip
    return json.dumps(shown).encode() + b"\n"


def sums(*, meta_digest: str, state_digest: str) -> bytes:
    """``SHA256SUMS``, from the hexadecimal digests of the two others."""
    return f"{meta_digest}  {META}\n{state_digest}  {STATE}\n".encode()


def tar_head(name: str, size: int, *, seconds: int) -> bytes:
    """What stands before a file of the tar."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, seconds
    return entry.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """What stands behind a file of this size."""
    return b"\0" * (-size % _BLOCK)


# --- reading


def unpack(data: bytes, *, size_max: int) -> Unpacked:
    """The chunks of an archive. Raises ``BadSnapshot``, also for one that unpacks to more than ``size_max``."""
    files = _files(_inflated(data, size_max))
    for name in (META, STATE, SUMS):
        if name not in files:
            raise BadSnapshot(f"file {name} is missing from the snapshot")
    lines = (line.split(maxsplit=1) for line in files[SUMS].decode("ascii", "replace").splitlines())
    told = {line[1]: line[0] for line in lines if len(line) == len(("digest", "name"))}
    for name in (META, STATE):
        if told.get(name) != hashlib.sha256(files[name]).hexdigest():
            raise BadSnapshot(f'hash check failed for "{name}"')
    return _records(files[STATE])


def _inflated(data: bytes, size_max: int) -> bytes:
    inflater = zlib.decompressobj(_GZIP)
    try:
        found = inflater.decompress(data, size_max + 1)
    except zlib.error:
        raise BadSnapshot("failed to decompress snapshot: gzip: invalid header") from None
    if len(found) > size_max:
        raise BadSnapshot(f"failed to decompress snapshot: more than {size_max} bytes")
    if not inflater.eof:
        raise BadSnapshot("failed to decompress snapshot: unexpected EOF")
    if inflater.unused_data:
        raise BadSnapshot("failed to decompress snapshot: there is something behind it")
    return found


def _files(data: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for entry in archive:
                content = archive.extractfile(entry) if entry.isreg() else None
                if content is None or entry.name not in (META, STATE, SUMS) or entry.name in files:
                    raise BadSnapshot(f'unexpected file "{entry.name[:64]}" in snapshot')
                files[entry.name] = content.read()
    except (tarfile.TarError, ValueError, OverflowError, EOFError, OSError, UnicodeError):
        raise BadSnapshot("failed reading snapshot: it is no tar") from None
    return files


class _Head(msgspec.Struct, rename="pascal"):
    last_index: int
    townhall: int


def _records(data: bytes) -> Unpacked:
    decoder = _Cursor(data)
    try:
        head = msgspec.convert(decoder.value(), _Head)
        chunks: list[bytes] = []
        while not decoder.done:
            if decoder.byte() != _TYPE:
                raise BadSnapshot("the snapshot is one of Consul's own, not of this registry")
            chunks.append(msgspec.convert(decoder.value(), bytes))
    except msgspec.MsgspecError:
        raise BadSnapshot("the snapshot is one of Consul's own, not of this registry") from None
    return Unpacked(head.last_index, tuple(chunks))


class _Cursor:
    """Reads ``state.bin``: MessagePack values one after the other, of the two kinds that ours has."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    @property
    def done(self) -> bool:
        """Whether all was read."""
        return self._at == len(self._data)

    def byte(self) -> int:
        """The next byte."""
        return self._take(1)[0]

    def value(self) -> object:
        """The next value: a map (only as the head) or bytes. Raises msgspec's errors, BadSnapshot at the end."""
        first = self._data[self._at] if not self.done else 0
        if first in _LENGTHS:
            width = _LENGTHS[first]
            start = self._at
            self._take(1)
            size = int.from_bytes(self._take(width), "big")
            self._take(size)
            return msgspec.msgpack.decode(self._data[start : self._at])
        # The head has two short fields, so it ends where the first record's type byte is, or at the end.
        for end in range(self._at + 1, min(self._at + _HEAD_SIZE_MAX, len(self._data)) + 1):
            try:
                found = msgspec.msgpack.decode(self._data[self._at : end])
            except msgspec.DecodeError:
                continue
            self._at = end
            return found
        raise BadSnapshot("the snapshot is one of Consul's own, not of this registry")

    def _take(self, size: int) -> memoryview:
        if self._at + size > len(self._data):
            raise BadSnapshot("failed reading snapshot: unexpected EOF")
        self._at += size
        return self._data[self._at - size : self._at]


_LENGTHS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}
"""First byte of a MessagePack bin → how many bytes its length has."""
_HEAD_SIZE_MAX: Final = 64
