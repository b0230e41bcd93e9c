"""A fake registry with backends in a thread of their own, for tests of what blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from backends import Backend
from fake_registry import FakeRegistry

from townhall.client import blocking
from townhall.client.loop_thread import LoopThread


@contextlib.contextmanager
def registry_in_a_thread(*names: str) -> Iterator[tuple[str, dict[str, Backend]]]:
    """Its URL, and the instances of ``user`` by their names."""
    thread = LoopThread()
    fake = FakeRegistry()
    made = {name: Backend(name) for name in names}

    async def begin() -> None:
        await fake.start()
        for name, backend in made.items():
            await backend.__aenter__()
            await fake.put("user", name, port=backend.port)

    async def end() -> None:
        for backend in made.values():
            await backend.die()
        await fake.stop()

    thread.run(begin())
    try:
        yield fake.url, made
    finally:
        blocking.close()
        thread.run(end())
        thread.stop()
