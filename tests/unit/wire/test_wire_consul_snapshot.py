"""The archive of a snapshot: there and back, and what is none is refused in one way."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from townhall.wire import consul_snapshot as archive
from townhall.wire.consul_snapshot import BadSnapshot, unpack

squeeze = partial(gzip.compress, mtime=0)  # Names of tests hold the bytes, so they must not hold the time.
CHUNKS = (b"H", b"x" * 300, b"y" * 70_000)


def tar(chunks: tuple[bytes, ...] = CHUNKS, *, state: bytes | None = None, more: bytes = b"") -> bytes:
    body = state if state is not None else archive.state_head(7) + b"".join(map(archive.record, chunks))
    about = archive.meta(index=7, size=len(body), node_id="n", address="127.0.0.1:8300")
    sums = archive.sums(meta_digest=hashlib.sha256(about).hexdigest(), state_digest=hashlib.sha256(body).hexdigest())
    parts = [
        archive.tar_head(name, len(content), seconds=1) + content + archive.padding(len(content))
        for name, content in (("meta.json", about), ("state.bin", body), ("SHA256SUMS", sums))
    ]
    return b"".join(parts) + more + b"\0" * 1_024


def packed(**fields) -> bytes:
    return squeeze(tar(**fields))


def test_there_and_back():
    assert unpack(packed(), size_max=1_000_000) == (7, CHUNKS)
    assert unpack(packed(chunks=()), size_max=1_000_000) == (7, ())
    with tarfile.open(fileobj=io.BytesIO(packed()), mode="r:gz") as found:
        assert found.getnames() == ["meta.json", "state.bin", "SHA256SUMS"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "unexpected EOF"),
        (b"garbage", "invalid header"),
        (squeeze(b""), "is missing|no tar"),
        (squeeze(b"garbage" * 200), "no tar"),
        (packed() + b"x", "something behind"),
        (squeeze(b"\0" * 2_000_000), "more than"),
        (packed(more=archive.tar_head("evil", 0, seconds=1)), "unexpected file"),
        (packed(state=b"\x81\xa9LastIndex\x07"), "Consul's own"),
        (packed(state=archive.state_head(7) + b"\x02\x80"), "Consul's own"),
        (packed(state=archive.state_head(7) + b"x"), "Consul's own|EOF"),
        (packed(state=archive.state_head(7) + archive.record(b"abc")[:-1]), "EOF"),
        (packed(state=b""), "Consul's own"),
        (squeeze(tar().replace(b"xxxx", b"xxxy", 1)), "hash check failed"),
    ],
)
def test_what_is_none(data, what):
    with pytest.raises(BadSnapshot, match=what):
        unpack(data, size_max=1_000_000)


def test_cut_anywhere():
    whole = packed(chunks=(b"H", b"abc"))
    for size in range(len(whole)):
        with pytest.raises(BadSnapshot):
            unpack(whole[:size], size_max=1_000_000)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 4_095), st.integers(0, 255), st.booleans())
def test_any_byte_may_be_another(at, value, inside):
    """Also within the tar: nothing but ``BadSnapshot`` is raised."""
    data = bytearray(tar(chunks=(b"H", b"abc")) if inside else packed(chunks=(b"H", b"abc")))
    data[at % len(data)] = value
    with suppress(BadSnapshot):
        unpack(squeeze(bytes(data)) if inside else bytes(data), size_max=1_000_000)
