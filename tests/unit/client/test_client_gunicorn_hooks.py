"""The hooks, called as gunicorn's master and workers call them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from threaded import registry_in_a_thread

import townhall
from townhall.client.gunicorn_hooks import Registration

pytestmark = pytest.mark.skipif(os.name == "nt", reason="gunicorn forks")


class Listener:
    def getsockname(self) -> Any:
        return ("127.0.0.1", 8000)


class UnixListener:
    def getsockname(self) -> Any:
        return "/run/socket"


class Master:
    LISTENERS = (UnixListener(), Listener())


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_registered_when_a_worker_serves_and_left_before_gunicorn_has_the_signal() -> None:
    signals: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
    try:
        with registry_in_a_thread() as (url, _), townhall.blocking.Registry(url) as registry:
            registration = Registration(url, service="user", tags=["v2"], drain_on_stop=False)
            registration.when_ready(Master())
            verdicts = lambda: [one.verdict for one in registry.instances("user").instances]  # noqa: E731
            (instance,) = registry.instances("user").instances
            assert (instance.port, instance.tags, instance.verdict) == (8000, ("v2",), "starting")
            registration.post_worker_init(None)
            registration.post_worker_init(None)
            until(lambda: getattr(registration.provider, "_provider")._self_check.healthy)  # noqa: B009
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda: signals == [signal.SIGTERM])
            assert verdicts() == []
            registration.on_exit(Master())
            assert registration.provider is not None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_without_a_signal_it_leaves_at_the_end() -> None:
    with registry_in_a_thread() as (url, _), townhall.blocking.Registry(url) as registry:
        registration = Registration(url, service="user", port=9000, handle_signals=False, drain_on_stop=False)
        registration.when_ready(Master())
        assert registry.instances("user").instances[0].port == 9000
        registration.on_exit(Master())
        assert not registry.instances("user").instances
    assert townhall.gunicorn.Registration is Registration
