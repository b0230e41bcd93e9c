"""The receivers, called as Celery's main process calls them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from celery.worker import state
from threaded import registry_in_a_thread

import townhall
from townhall.client import celery_workers
from townhall.client.celery_workers import Registration


class TaskPool:
    num_processes = 2


class Consumer:
    hostname = "mail@host"

    def __init__(self, app: object) -> None:
        self.app = app
        self.pool = TaskPool()


class Request:
    pass


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_registered_when_ready_draining_when_told_and_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    app = object()
    with registry_in_a_thread() as (url, _), townhall.blocking.Registry(url) as registry:
        registration = Registration(app, url, service="mail", port=1, metadata={"queue": "fast"})
        registration.ready(Consumer(object()))
        registration.shutting_down()
        registration.shutdown()
        assert registration.provider is None, "another application's worker"
        registration.ready(Consumer(app))
        (instance,) = registry.instances("mail").instances
        assert instance.id == "mail@host"
        assert instance.metadata["queue"] == "fast"
        assert instance.metadata["concurrency"] == "2"
        running = Request()
        state.active_requests.add(running)
        provider = registration.provider
        assert provider is not None
        assert registration.running == provider.running == 1
        parent = os.getpid()
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: parent + 1)
            registration.shutting_down()
            registration.shutdown()
            assert registration.provider is provider, "a child of prefork says nothing"
        registration.shutting_down()
        registration.shutting_down()
        until(lambda: [one.verdict for one in registry.instances("mail").instances] == ["draining"])
        # The drain still waits for a subscriber, and a task was cut off: neither holds up the end.
        registration.shutdown()
        assert not registry.instances("mail").instances
        assert registration.running == 0
        state.active_requests.discard(running)
    assert townhall.celery.Registration is Registration


def test_a_worker_that_is_refused_or_cannot_be_registered_works_on(caplog: pytest.LogCaptureFixture) -> None:
    app = object()
    with registry_in_a_thread() as (url, _):
        registration = Registration(app, url, service="mail", port=70_000)
        registration.ready(Consumer(app))
        assert registration.provider is None
        assert "works unregistered" in caplog.text
        green = Consumer(app)
        green.pool = type("TaskPool", (TaskPool,), {"__module__": "celery.concurrency.gevent"})()
        registration.ready(green)
        assert "the pool gevent" in caplog.text


def test_several_services_are_taken_as_they_are() -> None:
    services: Any = [townhall.Service(name="one", port=1, id="1"), townhall.Service(name="two", port=2, id="2")]
    app = object()
    with registry_in_a_thread() as (url, _), townhall.blocking.Registry(url) as registry:
        registration = Registration(app, url, services=services)
        registration.ready(Consumer(app))
        assert [one.id for name in ("one", "two") for one in registry.instances(name).instances] == ["1", "2"]
        registration.shutdown()
    assert celery_workers._LEAVE_S > 0
