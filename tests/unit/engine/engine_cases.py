"""Every engine under its name, for the conformance suite, and the shorthand that all engine tests use."""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from townhall.engine import Engine, Entry
from townhall.engine.faults import FaultPlan, FaultyEngine
from townhall.engine.file import FileEngine
from townhall.engine.lossy import LossyDisk
from townhall.engine.memory import MemoryEngine

Maker = Callable[[Path], Engine]


def no_faults(engine: Engine) -> FaultyEngine:
    return FaultyEngine(engine, FaultPlan(), random.Random(0))


MAKERS: dict[str, Maker] = {
    "memory": lambda _: MemoryEngine(),
    "file": FileEngine,
    "file-small-segments": lambda root: FileEngine(root, segment_size=256),
    "file-lossy": lambda root: FileEngine(root, disk=LossyDisk(random.Random(1)), segment_size=512),
    "faulty-memory": lambda _: no_faults(MemoryEngine()),
    "faulty-file": lambda root: no_faults(FileEngine(root)),
}


def append(engine: Engine, blobs: Sequence[bytes], expect: int | None = None) -> int:
    return asyncio.run(engine.append(blobs, engine.tail() if expect is None else expect))


def entries(engine: Engine, after: int = 0) -> list[Entry]:
    return list(engine.follow(after))


def filled(root: Path, groups: int = 5, **options: object) -> FileEngine:
    """An open file engine with ``groups`` groups of two entries each."""
    engine = FileEngine(root, **options)
    engine.open()
    for number in range(groups):
        append(engine, [b"a%d" % number, b"b%d" % number])
    return engine


def last_segment(root: Path) -> Path:
    return max((root / "journal").glob("*.seg"))


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)
