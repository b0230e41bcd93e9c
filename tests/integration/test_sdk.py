"""The SDK against a real registry: crashes, pauses, restarts and drains, with real processes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import townhall
from townhall.client.alarms import AlarmKind
from townhall.client.consumer import MirrorState
from townhall.client.records import Registration
from townhall.model.errors import Conflict, Fenced
from townhall_process import DEADLINE_S, TownhallProcess, environment

Start = Callable[..., TownhallProcess]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(300):
            await main

    asyncio.run(bounded())


async def until(condition: Callable[[], object], what: str, deadline_s: float = 120.0) -> None:
    try:
        async with asyncio.timeout(deadline_s):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {deadline_s} s: {what}") from None


def consumer(url: str | list[str], **options: Any) -> townhall.Consumer:
    # The first answer may find this process stopped.
    return townhall.Consumer(url, snapshot_directory=None, **{"start_timeout": DEADLINE_S, **options})


PROVIDER = """
import asyncio, sys, townhall
async def main():
    async def answer(reader, writer):
        try:
            while await reader.readuntil(b"\\r\\n\\r\\n"):
                writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 4\\r\\n\\r\\npong")
        except (OSError, EOFError):
            writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    provider = townhall.Provider(sys.argv[1], service=sys.argv[2], port=port, ttl=float(sys.argv[3]), handle_signals=True)
    await provider.start()
    print(port, flush=True)
    await provider.wait_stopped()
asyncio.run(main())
"""


@pytest.fixture
def provide() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts provider processes: ``provide(url, service, ttl)``; they are registered when this returns."""
    started: list[subprocess.Popen[str]] = []

    def begin(url: str, service: str, ttl: float = 1.0) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROVIDER, url, service, str(ttl)],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_found_changed_and_gone(registry: TownhallProcess) -> None:
    async def main() -> None:
        services = [townhall.Service(name="sdk-a", port=1, tags=["x"]), townhall.Service(name="sdk-b", port=2)]
        async with consumer(registry.url) as found, townhall.Registry(registry.url) as api:
            async with townhall.Provider(registry.url, services=services, ttl=2.0) as provider:
                await found.start("sdk-a", "sdk-b")
                assert found["sdk-a"].pick().port == 1
                assert found["sdk-b"].pick().port == 2
                await until(lambda: provider.connected, "session")
                lease = await api.leases.get(provider.lease)
                assert len(lease.instances) == 2
                assert lease.connected
                await provider.update("sdk-a", weight=7.0, metadata={"k": "v"})
                await until(lambda: found["sdk-a"].pick().weight == 7.0, "the new weight")
                assert found["sdk-a"].pick().metadata == {"k": "v"}
            await until(lambda: not found["sdk-a"].instances() and not found["sdk-b"].instances(), "deregistered")

    run(main())


def test_a_crash_is_seen_at_once_and_no_call_fails(registry: TownhallProcess, provide: Any) -> None:
    one, two = provide(registry.url, "sdk-crash", 60.0), provide(registry.url, "sdk-crash", 60.0)

    async def main() -> None:
        async with consumer(registry.url) as found:
            handle = found["sdk-crash"]
            await handle.wait_callable(2)
            calls: Counter[str] = Counter()
            stop = asyncio.Event()

            async def call() -> None:
                while not stop.is_set():
                    calls[(await handle.get("/")).text] += 1
                    await asyncio.sleep(0)

            task = asyncio.get_running_loop().create_task(call())
            await until(lambda: calls["pong"] > 20, "calls")
            one.kill()
            # The lease would live for another minute: the broken session tells.
            await until(lambda: len(handle.instances(callable_only=True)) == 1, "suspect", 20)
            (suspect,) = [each for each in handle.instances() if not each.callable]
            assert suspect.verdict == "suspect"
            before = calls["pong"]
            await until(lambda: calls["pong"] > before + 20, "calls go on")
            stop.set()
            await task
            assert set(calls) == {"pong"}
            # Not while somebody calls it: it does not wait for those who call.
            two.terminate()

    run(main())
    assert two.wait(120) == 0


def test_a_paused_provider_comes_back(registry: TownhallProcess, provide: Any) -> None:
    process = provide(registry.url, "sdk-pause", 0.5)

    async def main() -> None:
        async with consumer(registry.url) as found:
            handle = found["sdk-pause"]
            await handle.wait_callable()
            process.send_signal(signal.SIGSTOP)
            await until(lambda: not handle.instances(callable_only=True), "lapsed")
            process.send_signal(signal.SIGCONT)
            await handle.wait_callable(budget_s=120)

    run(main())


def test_a_restart_of_the_registry_harms_nobody(start: Start, tmp_path: Path) -> None:
    async def main() -> None:
        registry = start("--data", str(tmp_path / "data"))
        alarms: list[AlarmKind] = []
        async with (
            consumer(registry.url) as found,
            townhall.Provider(
                registry.url, service="sdk", port=1, ttl=8.0, on_alarm=lambda alarm: alarms.append(alarm.kind)
            ) as provider,
        ):
            handle = found["sdk"]
            await handle.start()
            await until(lambda: found.state is MirrorState.CONNECTED and provider.connected, "connected")
            incarnation = provider.instances[0].incarnation
            for _ in range(2):
                await asyncio.to_thread(registry.kill)
                await until(lambda: found.state is MirrorState.SUSPENDED and provider.away, "away")
                assert handle.pick().port == 1
                await asyncio.to_thread(registry.restart)
                await until(
                    lambda: found.state is MirrorState.CONNECTED and provider.connected and not provider.away, "back"
                )
                assert handle.pick().incarnation == incarnation, "the same registration, not a new one"
            assert alarms == [AlarmKind.AWAY, AlarmKind.BACK] * 2

    run(main())


def test_a_registry_that_keeps_nothing_is_told_again(start: Start) -> None:
    async def main() -> None:
        registry = start("--dev", "--consul", "off")
        async with (
            consumer(registry.url) as found,
            townhall.Provider(
                registry.url, services=[townhall.Service(name=name, port=1) for name in "ab"], ttl=2.0
            ) as provider,
        ):
            await found.start("a", "b")
            await until(lambda: found.state is MirrorState.CONNECTED and provider.connected, "connected")
            await asyncio.to_thread(registry.kill)
            await asyncio.to_thread(registry.restart)
            await until(
                lambda: provider.counters.registrations and provider.connected and not provider.away, "registered again"
            )
            async with townhall.Registry(registry.url) as api:
                assert {one.name for one in (await api.services()).services} == {"a", "b"}
            await until(lambda: found.state is MirrorState.CONNECTED, "the mirror")
            await found["a"].wait_callable()
            await found["b"].wait_callable()

    run(main())


def test_a_paused_registry_evicts_nobody(start: Start, tmp_path: Path) -> None:
    async def main() -> None:
        registry = start("--data", str(tmp_path / "data"))
        async with (
            consumer(registry.url) as found,
            townhall.Provider(registry.url, service="sdk", port=1, ttl=2.0) as provider,
        ):
            handle = found["sdk"]
            await handle.start()
            verdicts: set[str] = set()
            handle.on_change(lambda change: verdicts.update(one.verdict for one in change.picture.instances))
            await until(lambda: provider.connected, "session")
            registry.signal(signal.SIGSTOP)
            await until(lambda: provider.away, "away")
            # Longer than the TTL from the last renewal that it answered.
            await asyncio.sleep(2.0)
            registry.signal(signal.SIGCONT)
            await until(lambda: not provider.away and provider.connected, "back")
            await handle.wait_callable()
            assert "down" not in verdicts
            assert len(handle.instances()) == 1

    run(main())


def test_a_drain_ends_when_its_subscribers_know(registry: TownhallProcess) -> None:
    async def main() -> None:
        async with (
            consumer(registry.url, name="the consumer") as found,
            townhall.Registry(registry.url) as api,
            townhall.Provider(registry.url, service="sdk-drain", port=1) as provider,
        ):
            handle = found["sdk-drain"]
            await handle.wait_callable()
            await until(lambda: found.state is MirrorState.CONNECTED, "connected")
            assert await provider.drain(deadline=20) is True
            assert not handle.instances(callable_only=True)
            (subscriber,) = (await api.subscribers("sdk-drain")).subscribers
            assert subscriber.name == "the consumer"
            assert subscriber.explicit
            with pytest.raises(townhall.NoInstance):
                handle.pick()

    run(main())


def test_a_late_old_process_removes_nothing_of_the_new(registry: TownhallProcess) -> None:
    async def main() -> None:
        alarms: list[AlarmKind] = []
        old = townhall.Provider(
            registry.url,
            service="sdk-fence",
            port=1,
            id="same",
            ttl=1.0,
            on_alarm=lambda alarm: alarms.append(alarm.kind),
        )
        await old.start()
        async with consumer(registry.url) as found:
            handle = found["sdk-fence"]
            await handle.start()
            async with townhall.Provider(registry.url, service="sdk-fence", port=2, id="same", ttl=20.0) as new:
                await until(lambda: AlarmKind.SUPERSEDED in alarms, "the old one hears of it")
                await old.stop()
                assert new.instances[0].incarnation > 0
                await asyncio.sleep(0.5)
                assert handle.pick().port == 2
                async with townhall.Registry(registry.url) as api:
                    with pytest.raises(Fenced):
                        await api.deregister("sdk-fence", "same", claim="somebody else's")

    run(main())


def test_the_second_url_is_used_when_the_first_is_dead(registry: TownhallProcess) -> None:
    async def main() -> None:
        urls = ["http://127.0.0.1:1", registry.url]
        async with townhall.Provider(urls, service="sdk-two", port=1), consumer(urls) as found:
            assert (await asyncio.wait_for(_pick(found["sdk-two"]), 120)).port == 1

    run(main())


async def _pick(handle: Any) -> townhall.Instance:
    await handle.start()
    picked: townhall.Instance = handle.pick()
    return picked


def test_keys_and_locks(registry: TownhallProcess) -> None:
    async def main() -> None:
        async with townhall.Registry(registry.url) as api:
            written = await api.kv.put("sdk/a b/ü", "värde")
            key = await api.kv.get("sdk/a b/ü")
            assert (key.value, key.mod_revision) == ("värde", written.revision)
            with pytest.raises(Conflict):
                await api.kv.put("sdk/a b/ü", b"x", cas=written.revision + 100)
            assert (await api.kv.list("sdk/")).count == 1
            async with await api.kv.watch("sdk/", after=written.revision) as stream:
                await api.kv.put("sdk/c", b"\xff")
                async for kind, event in stream.objects():
                    if kind == "put":
                        assert (event["key"], event["value"]) == ("sdk/c", None)
                        break
            assert await api.kv.get_raw("sdk/c") == b"\xff"
            mine, theirs = await api.leases.grant(ttl_ms=20_000), await api.leases.grant(ttl_ms=20_000)
            held = await api.locks.acquire("sdk/lock", mine.lease, value="me")
            assert held["held"] is True
            with pytest.raises(Conflict) as caught:
                await api.locks.acquire("sdk/lock", theirs.lease)
            assert caught.value.fields["holder"]["lease"] == mine.lease  # type: ignore[index]
            waiting = asyncio.get_running_loop().create_task(
                api.locks.acquire("sdk/lock", theirs.lease, wait_ms=20_000)
            )
            await asyncio.sleep(0.1)
            await api.locks.release("sdk/lock", mine.lease)
            assert (await waiting)["fence"] > held["fence"]
            await api.leases.revoke(theirs.lease)
            assert (await api.locks.get("sdk/lock"))["holder"] is None

    run(main())


def test_the_rest_of_the_api(registry: TownhallProcess) -> None:
    async def main() -> None:
        async with townhall.Registry(registry.url) as api:
            made = await api.register(
                Registration(service="sdk-api", address="127.0.0.1", port=1, persistent=True, tags=("x",))
            )
            name = made.instance.id
            assert made.lease is None
            assert (await api.instances("sdk-api", tags=["x"], healthy=True)).instances[0].id == name
            assert not (await api.instances("sdk-api", filter='"y" in tags')).instances
            await api.maintenance("sdk-api", name, "new disk")
            assert (await api.instance("sdk-api", name)).verdict == "maintenance"
            await api.maintenance("sdk-api", name, None)
            await api.override("sdk-api", name, "down", reason="because")
            assert (await api.instance("sdk-api", name)).verdict == "down"
            await api.override("sdk-api", name, None)
            await api.put_service("sdk-api", settings={"floor": 0.25})
            record = await api.service("sdk-api")
            assert record.settings["floor"] == 0.25  # type: ignore[index, call-overload]
            waiting = asyncio.get_running_loop().create_task(
                api.instances("sdk-api", after=record.revision, wait_ms=20_000)
            )
            await asyncio.sleep(0.05)
            await api.patch("sdk-api", name, weight=2.0)
            assert (await waiting).instances[0].weight == 2.0
            await api.report("me", [{"service": "sdk-api", "id": name, "kind": "connect", "count": 1}])
            await api.deregister("sdk-api", name)
            await api.delete_service("sdk-api")
            assert "townhall" in await api.metrics()
            assert await api.ready()

    run(main())


def test_a_caller_s_reports_settle_a_verdict(start: Start) -> None:
    async def main() -> None:
        # One of its own: in the shared one the registry's floor counts what other tests have killed.
        registry = start("--dev")
        async with consumer(registry.url, balancer="round_robin") as found, townhall.Registry(registry.url) as api:
            for port in (1, 2):
                await api.register(Registration(service="sdk-report", address="127.0.0.1", port=port, ttl_ms=60_000))
            handle = found["sdk-report"]
            await handle.wait_callable(2)
            ill = handle.pick()
            for _ in range(5):
                handle.failed(ill, "connect")
            await until(
                lambda: not next(one for one in handle.instances() if one.id == ill.id).callable, "suspect by report"
            )

    run(main())


def test_the_blocking_twins(registry: TownhallProcess) -> None:
    with (
        townhall.blocking.Provider(registry.url, service="sdk-blocking", port=1, ttl=2.0),
        townhall.blocking.Consumer(registry.url, snapshot_directory=None) as found,
        townhall.blocking.Registry(registry.url) as api,
    ):
        found["sdk-blocking"].wait_callable()
        assert found["sdk-blocking"].pick().port == 1
        assert api.instances("sdk-blocking").instances[0].port == 1
        assert json.dumps(api.status())
    townhall.blocking.close()


def test_under_uvloop(registry: TownhallProcess) -> None:
    import uvloop

    async def main() -> None:
        async with (
            townhall.Provider(registry.url, service="sdk-uvloop", port=1) as provider,
            consumer(registry.url) as found,
        ):
            await found["sdk-uvloop"].wait_callable()
            await until(lambda: provider.connected, "session")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main(), 300))


def test_the_examples_run(registry: TownhallProcess, tmp_path: Path) -> None:
    env = environment({"XDG_CACHE_HOME": str(tmp_path)})
    provider = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "provider.py"), registry.url], env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert provider.stdout is not None
        assert "registered" in provider.stdout.readline()
        for name in ("consumer.py", "blocking_consumer.py"):
            done = subprocess.run(
                [sys.executable, "-W", "error", str(EXAMPLES / name), registry.url],
                env=env, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "hello" in done.stdout
        provider.send_signal(signal.SIGTERM)
        assert provider.wait(120) == 0
    finally:
        provider.kill()
        provider.wait()
        provider.stdout.close()


def test_importing_brings_nothing_heavy() -> None:
    # What makes an import slow is what it drags in; the time itself depends on what else the machine does.
    heavy = {"ctypes", "email", "http.client", "multiprocessing", "sqlite3", "xml"}
    script = "import sys, townhall; townhall.Provider, townhall.Consumer; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert not heavy & set(done.stdout.split())
