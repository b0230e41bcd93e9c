"""Signals are taken once and given back."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
from fake_registry import until

from townhall.client.signals import StopSignals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no signals to oneself")


def test_the_first_signal_calls_back_and_frees_the_second() -> None:
    async def main() -> None:
        calls: list[int] = []
        before = signal.getsignal(signal.SIGTERM)
        signals = StopSignals(calls.append)
        signals.install()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: calls == [signal.SIGTERM])
        assert signal.getsignal(signal.SIGTERM) == before
        signals.remove()

    asyncio.run(main())


def test_a_handler_that_came_later_is_left_alone() -> None:
    async def main() -> None:
        before = signal.getsignal(signal.SIGTERM)
        signals = StopSignals(lambda number: None)
        signals.install()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signals.remove()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.signal(signal.SIGTERM, before)

    asyncio.run(main())


def test_outside_the_main_thread_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def main() -> None:
        signals = StopSignals(lambda number: None)
        signals.install()
        signals.remove()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before
    assert "signals are not handled" in caplog.text
