from __future__ import annotations

import pytest

from own_time import keep_own_time


@pytest.fixture(autouse=True)
def own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """See ``own_time``. A test of what a pause does to us asks ``monkeypatch.undo()`` first, or runs a process."""
    keep_own_time(monkeypatch)
