from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from townhall_process import TownhallProcess, running


@pytest.fixture(scope="session")
def registry() -> Iterator[TownhallProcess]:
    """One ``townhall up --dev`` for all tests that do not stop it; use names of your own in it."""
    with running("--dev") as process:
        yield process


@pytest.fixture
def start() -> Iterator[Callable[..., TownhallProcess]]:
    """Starts registries of a test's own: ``start("--data", path)``. All are gone at the end of the test."""
    started: list[TownhallProcess] = []

    def begin(*options: str, **keywords) -> TownhallProcess:
        process = TownhallProcess(*options, **keywords)
        started.append(process)
        return process.start()

    yield begin
    for process in started:
        process.close()
