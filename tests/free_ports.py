"""Ports that stay free until whoever asked for one listens there.

A port that the kernel chose may be gone a moment later: the kernel gives it to the next one who asks for any port, or
who only connects. These lie below the range that it chooses from, and each test process has some for itself, by a lock
that ends with the process, so they are nobody's until the test gives them to somebody.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

FIRST, LAST = 20_000, 32_000
BLOCK = 100


def _ports() -> Iterator[int]:
    folder = Path(tempfile.gettempdir()) / f"townhall-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    blocks = list(range(FIRST, LAST, BLOCK))
    random.shuffle(blocks)
    for block in blocks:
        lock = os.open(folder / str(block), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        # Never closed: the block is ours as long as this process lives.
        yield from range(block, block + BLOCK)


_remaining = _ports()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 on which nobody listens, given to nobody twice."""
    for port in _remaining:
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("all ports for tests are in use")
