"""The blocking twins do what their originals do, from any thread."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from backends import Backend
from fake_registry import FakeRegistry

from free_ports import free_port
from townhall.client import blocking, consumer, handle
from townhall.client.loop_thread import LoopThread
from townhall.client.records import Instance, Registration
from townhall.model.errors import NoInstance, NotFound, Unreachable

KEY = ("default", "default", "user")


@pytest.fixture
def servers() -> Iterator[LoopThread]:
    """A thread for the fake registry: it must not live in the loop that is tested."""
    thread = LoopThread()
    yield thread
    thread.stop()
    blocking.close()


@pytest.fixture
def fake(servers: LoopThread) -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    servers.run(registry.start())
    yield registry
    servers.run(registry.stop())


def until(condition: object, deadline_s: float = 120.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_provider_registers_and_leaves(fake: FakeRegistry) -> None:
    with blocking.Provider(fake.url, service="user", port=1, ttl=0.6) as provider:
        assert fake.instances[KEY]
        assert provider.instances[0].instance.service == "user"
        assert not provider.away
        provider.update(weight=4.0)
        assert fake.instances[KEY]["user-127.0.0.1-1"]["weight"] == 4.0
        fake.acknowledged.append({"user": 10**9})
        assert provider.drain(deadline=5) is True
    assert not fake.instances[KEY]
    provider.stop()


def test_a_provider_that_cannot_register_does_not_start() -> None:
    with pytest.raises(Unreachable), blocking.Provider(f"http://127.0.0.1:{free_port()}", service="user", port=1):
        pass
    blocking.close()


def test_stopping_waits_for_requests_in_threads(fake: FakeRegistry) -> None:
    answered = threading.Event()
    begun = threading.Event()
    provider = blocking.Provider(fake.url, service="user", port=1, drain_deadline=20)
    provider.start()

    def request() -> None:
        with provider.track():
            begun.set()
            while fake.instances[KEY]:
                time.sleep(0.005)
            answered.set()

    thread = threading.Thread(target=request)
    thread.start()
    begun.wait()
    provider.stop()
    assert answered.is_set()
    thread.join()


@pytest.mark.skipif(os.name == "nt", reason="no signals to oneself")
def test_a_signal_stops_it_and_is_passed_on(fake: FakeRegistry) -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        provider = blocking.Provider(fake.url, service="user", port=1, handle_signals=True)
        provider.start()
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: heard)
        assert not fake.instances[KEY]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_consumer_picks_calls_and_watches(fake: FakeRegistry, servers: LoopThread) -> None:
    a, b = Backend("a"), Backend("b")
    for backend in (a, b):
        servers.run(backend.__aenter__())
        servers.run(fake.put("user", backend.name, port=backend.port))
    with blocking.Consumer(fake.url, snapshot_directory=None, balancer="round_robin") as consumer:
        users = consumer["user"]
        assert consumer["user"] is users
        users.wait_callable(2)
        until(lambda: consumer.state == "connected")
        assert Counter(users.pick().id for _ in range(8)) == {"a": 4, "b": 4}
        assert Counter(users.get("/").text for _ in range(4)) == {"a": 2, "b": 2}

        def fetch(instance: Instance) -> str:
            with urllib.request.urlopen(instance.url("/"), timeout=10) as answer:
                return str(answer.read().decode())

        assert {users.call(fetch) for _ in range(4)} == {"a", "b"}
        servers.run(a.die())
        assert {users.call(fetch, failures=(urllib.error.URLError,)) for _ in range(6)} == {"b"}
        until(lambda: fake.reports)
        with pytest.raises(OSError, match="always"):
            users.call(_fail, retries=1, timeout=5)
        pictures = users.watch()
        assert {one.id for one in next(pictures).instances} == {"a", "b"}
        servers.run(fake.remove("user", "a"))
        assert {one.id for one in next(pictures).instances} == {"b"}
        pictures.close()  # type: ignore[attr-defined]
        with pytest.raises(NoInstance):
            consumer["nobody"].call(fetch)
    servers.run(b.die())


def _fail(instance: Instance) -> None:
    raise OSError("always")


def test_many_threads_pick_at_once(fake: FakeRegistry, servers: LoopThread) -> None:
    for n in range(5):
        servers.run(fake.put("user", f"i{n}", weight=float(n + 1)))
    with blocking.Consumer(fake.url, snapshot_directory=None) as consumer:
        users = consumer["user"]
        users.start()
        with ThreadPoolExecutor(4) as pool:
            counts = sum(pool.map(lambda _: Counter(users.pick().id for _ in range(1_500)), range(4)), Counter())
        assert sum(counts.values()) == 6_000
        for n in range(5):
            assert abs(counts[f"i{n}"] - 6_000 * (n + 1) / 15) <= 5


def test_the_api_waits(fake: FakeRegistry, servers: LoopThread) -> None:
    with blocking.Registry(fake.url) as registry:
        made = registry.register(Registration(service="user", address="127.0.0.1", port=1, id="a", claim="c"))
        assert made.instance.id == "a"
        assert registry.instances("user").revision == 1
        assert registry.namespace == "default"
        with pytest.raises(NotFound):
            registry.instance("user", "nobody")
        fake.canned["GET", "/kv/a"] = {"key": "a", "value": "v"}
        assert registry.kv.get("a").value == "v"
        assert registry.kv.space("etcd").get("a").value == "v"
        events = registry.watch(["user"])
        assert [next(events).kind, next(events).kind] == ["snapshot", "ready"]
        servers.run(fake.put("user", "b"))
        assert next(events).kind == "delta"
        assert registry._registry.transport.http._busy
        events.close()
        assert not registry._registry.transport.http._busy


def test_everything_is_gone_after_close() -> None:
    before = threading.active_count()
    consumer = blocking.Consumer("http://127.0.0.1:1", snapshot_directory=None, start_timeout=0.1)
    with pytest.raises(NoInstance):
        consumer["user"].start()
    blocking.close()
    assert threading.active_count() <= before
    consumer.close()
    asyncio.run(asyncio.sleep(0))


@pytest.mark.parametrize(
    ("twin", "original", "apart"),
    [
        (blocking.Consumer, consumer.Consumer, set()),
        # What is for the SDK's own parts, and for an event loop.
        (
            blocking.ServiceHandle,
            handle.ServiceHandle,
            {"begin_anew", "leaving", "settle", "shared", "started_in", "stop"},
        ),
    ],
)
def test_the_twins_have_the_same_names(twin: type, original: type, apart: set[str]) -> None:
    def names(of: type) -> set[str]:
        return {name for name in dir(of) if not name.startswith("_")}

    assert names(original) - names(twin) == apart
    assert names(twin) - names(original) <= {"key"}, "which is an attribute of the original"


def test_changes_and_states_are_told(fake: FakeRegistry, servers: LoopThread) -> None:
    with blocking.Consumer(fake.url, snapshot_directory=None) as client:
        client.start("user", "other")
        user = client["user"]
        told: list[object] = []
        end_state = client.on_state(told.append)
        end_change = user.on_change(lambda change: told.append(change.picture.revision))
        servers.run(fake.put("user", "a"))
        until(lambda: 1 in told and user.revision == 1)
        assert (user.key.name, user.stale, user.age_s) == ("user", False, 0.0)
        assert user.picture is not None
        assert [one.id for one in user.picture.instances] == ["a"]
        end_change()
        end_state()


def test_after_the_thread_was_ended_a_new_one_goes_on(fake: FakeRegistry, servers: LoopThread) -> None:
    servers.run(fake.put("user", "a"))
    client, registry = blocking.Consumer(fake.url, snapshot_directory=None), blocking.Registry(fake.url)
    assert client["user"].pick().id == "a", "started by itself"
    assert registry.instances("user").revision == 1
    blocking.close()
    assert client["user"].stale
    assert client["user"].call(lambda one: one.id) == "a"
    assert registry.instances("user").revision == 1
    until(lambda: not client["user"].stale)
    client.close()
    client.close()
    registry.close()
