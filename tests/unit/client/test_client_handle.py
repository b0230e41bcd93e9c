"""Picking from memory, calls that survive their instances, and what is said when nothing can be called."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from backends import Backend
from fake_registry import FakeRegistry, until

from free_ports import free_port
from townhall.client.consumer import Consumer
from townhall.client.handle import ServiceHandle
from townhall.client.picture import Change
from townhall.client.records import Instance
from townhall.model import limits
from townhall.model.errors import NoInstance, Unreachable

Scene = Callable[[FakeRegistry, ServiceHandle], Awaitable[None]]


def play(scene: Scene, *, balancer: str = "round_robin") -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(120),
            FakeRegistry() as fake,
            Consumer(fake.url, snapshot_directory=None, balancer=balancer, start_timeout=2.0) as consumer,
        ):
            await scene(fake, consumer["user"])

    asyncio.run(main())


@contextlib.asynccontextmanager
async def backends(fake: FakeRegistry, *names: str) -> AsyncIterator[dict[str, Backend]]:
    async with contextlib.AsyncExitStack() as stack:
        made = {name: await stack.enter_async_context(Backend(name)) for name in names}
        for name, backend in made.items():
            await fake.put("user", name, port=backend.port)
        yield made


def test_pick_is_from_memory() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        for name in "abc":
            await fake.put("user", name)
        await handle.start()
        asked = len(fake.asked)
        assert Counter(handle.pick().id for _ in range(9)) == {"a": 3, "b": 3, "c": 3}
        assert all(one.path == "/watch" or one.path.endswith("/ack") for one in fake.asked[asked:])
        assert [one.id for one in handle.instances()] == ["a", "b", "c"]
        assert handle.revision == 3
        await fake.put("user", "b", verdict="down", callable=False)
        await until(lambda: len(handle.instances(callable_only=True)) == 2)
        assert {handle.pick().id for _ in range(9)} == {"a", "c"}
        await until(lambda: not handle.stale)

    play(scene)


def test_the_reasons_for_nothing() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        def why() -> object:
            with pytest.raises(NoInstance) as caught:
                handle.pick()
            return caught.value.fields["why"]

        assert why() == "not_started"
        await handle.start()
        assert why() == "unknown_service"
        await fake.put("user", "a", verdict="draining", callable=False)
        await until(lambda: handle.revision)
        assert why() == "none_callable"
        with pytest.raises(NoInstance, match="1 draining"):
            handle.pick()
        await fake.stop()
        await until(lambda: handle.stale)
        with pytest.raises(NoInstance, match="the registry is away"):
            await handle.call(_name)
        await fake.start()

    play(scene)


def test_no_registry_and_nothing_known() -> None:
    async def main() -> None:
        async with Consumer(f"http://127.0.0.1:{free_port()}", snapshot_directory=None, start_timeout=0.5) as consumer:
            for _ in range(2):
                with pytest.raises(NoInstance) as caught:
                    await consumer["user"].get("/")
                assert caught.value.fields["why"] == "registry_unreachable"

    asyncio.run(main())


def test_a_registry_that_comes_later_is_found() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        await fake.put("user", "a")
        await fake.stop()
        with pytest.raises(NoInstance):
            await handle.start()
        await fake.start()
        await until(lambda: handle.revision)
        assert handle.pick().id == "a"

    play(scene)


async def _name(instance: Instance) -> str:
    return instance.id


def test_a_failed_call_goes_to_another_and_ejects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_EJECTION_MS", 200)

    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        for name in "abcd":
            await fake.put("user", name)
        tried: list[str] = []
        ill = {"a"}

        async def function(instance: Instance) -> str:
            tried.append(instance.id)
            if instance.id in ill:
                raise ConnectionResetError("gone")
            return instance.id

        answers = [await handle.call(function) for _ in range(12)]
        assert "a" not in answers
        assert tried.count("a") == 1, "left out after its failure"
        await until(lambda: fake.reports)
        (failure,) = fake.reports[0]["failures"]
        assert (failure["service"], failure["id"], failure["kind"], failure["count"]) == ("user", "a", "reset", 1)
        ill.clear()
        await until(lambda: handle.pick().id == "a")
        assert "a" in [await handle.call(function) for _ in range(8)]

    play(scene)


def test_each_attempt_is_elsewhere_and_the_last_error_is_raised() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        for name in "abcde":
            await fake.put("user", name)
        tried: list[str] = []

        async def function(instance: Instance) -> None:
            tried.append(instance.id)
            raise ConnectionResetError(instance.id)

        with pytest.raises(ConnectionResetError) as caught:
            await handle.call(function, retries=4)
        assert sorted(tried) == list("abcde")
        assert str(caught.value) == tried[-1]
        tried.clear()
        with pytest.raises(ConnectionResetError):
            await handle.call(function, retries=6)
        assert len(tried) == 7, "when all were tried they are tried again"
        tried.clear()
        with pytest.raises(ConnectionResetError):
            await handle.call(function, idempotent=False)
        assert len(tried) == 1

    play(scene)


def test_the_application_s_errors_pass_at_once() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        await fake.put("user", "a")
        await fake.put("user", "b")
        calls = []

        async def function(instance: Instance) -> None:
            calls.append(instance.id)
            raise LookupError("no such user")

        with pytest.raises(LookupError):
            await handle.call(function)
        assert len(calls) == 1
        with pytest.raises(LookupError):
            await handle.call(function, failures=(LookupError,), retries=1)
        assert len(calls) == 3

    play(scene)


def test_timeouts_per_try_and_for_all() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        for name in "abc":
            await fake.put("user", name)

        async def hang_on_a(instance: Instance) -> str:
            if instance.id == "a":
                await asyncio.Event().wait()
            return instance.id

        for _ in range(3):
            assert await handle.call(hang_on_a, try_timeout=0.05) != "a"

        async def hang(instance: Instance) -> None:
            await asyncio.Event().wait()

        with pytest.raises(TimeoutError):
            await handle.call(hang, timeout=0.1, retries=9)
        await until(lambda: fake.reports)
        assert {one["kind"] for report in fake.reports for one in report["failures"]} == {"timeout"}

    play(scene)


def test_when_all_are_ejected_calls_go_on() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        await fake.put("user", "a")
        await handle.start()
        handle.failed(handle.pick(), "connect")
        assert handle.pick().id == "a"
        await fake.put("user", "b", verdict="suspect", callable=False)
        await until(lambda: len(handle.instances()) == 2)
        assert handle.pick().id == "b", "a fresh suspect is better than one that has just failed us"

    play(scene)


def test_waiting_for_an_instance() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        task = asyncio.get_running_loop().create_task(handle.call(_name, wait=20))
        await until(lambda: fake.asked)
        await fake.put("user", "a")
        assert await task == "a"
        with pytest.raises(NoInstance):
            await handle.wait_callable(2, budget_s=0.05)

    play(scene)


def test_requests_over_http() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        async with backends(fake, "a", "b") as made:
            answers = Counter([(await handle.get("/x?y=1")).text for _ in range(6)])
            assert answers == {"a": 3, "b": 3}
            assert made["a"].requests[0] == "GET /x?y=1 HTTP/1.1"
            await handle.request("POST", "/", json={"k": 1})
            assert any(one.endswith('{"k":1}') for one in made["a"].requests + made["b"].requests)
            await made["a"].die()
            assert [(await handle.get("/")).text for _ in range(6)] == ["b"] * 6
            with pytest.raises(KeyError):
                await handle.get("/", port_name="none")

    play(scene)


def test_overloaded_instances_are_passed_over() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        async with backends(fake, "a", "b") as made:
            made["a"].status = 503
            assert [(await handle.get("/")).status for _ in range(5)] == [200] * 5
            made["b"].status = 503
            answer = await handle.get("/")
            assert (answer.status, answer.ok) == (503, False)
            made["a"].status = made["b"].status = 500
            before = len(made["a"].requests) + len(made["b"].requests)
            assert (await handle.get("/")).status == 500, "an application's error is an answer"
            assert len(made["a"].requests) + len(made["b"].requests) == before + 1
            await until(lambda: any(one["kind"] == "5xx" for report in fake.reports for one in report["failures"]))

    play(scene)


def test_a_hanging_instance_costs_one_share_of_the_time() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        async with backends(fake, "a", "b") as made:
            made["a"].hang = True
            assert [(await handle.get("/", timeout=2.0)).text for _ in range(4)] == ["b"] * 4
            made["b"].hang = True
            with pytest.raises(Unreachable) as caught:
                await handle.get("/", timeout=0.2)
            assert caught.value.fields["kind"] == "timeout"
            with pytest.raises(Unreachable):
                await handle.request("POST", "/", timeout=0.8)
            posted = [one for one in (*made["a"].requests, *made["b"].requests) if one.startswith("POST")]
            assert len(posted) <= 1, "a POST is not repeated"

    play(scene)


def test_changes_are_told_and_a_bad_listener_hurts_nobody() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        errors: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context["exception"]))
        changes: list[Change] = []

        def listener(change: Change) -> None:
            changes.append(change)
            raise ValueError("the application's own mistake")

        await handle.start()
        end = handle.on_change(listener)
        await fake.put("user", "a")
        await until(lambda: changes)
        end()
        await fake.remove("user", "a")
        await until(lambda: not handle.instances())
        assert len(changes) == 1
        assert len(errors) == 1

    play(scene)


def test_a_watch_shows_the_latest() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        seen: list[int] = []

        async def watch() -> None:
            async for picture in handle.watch():
                seen.append(picture.revision)
                if picture.revision == 20:
                    return
                await asyncio.sleep(0.02)

        task = asyncio.get_running_loop().create_task(watch())
        await until(lambda: seen == [0])
        for n in range(20):
            await fake.put("user", f"i{n}")
        await task
        assert seen == sorted(set(seen))
        assert len(seen) < 21, "a slow one sees the latest, not each"

    play(scene)


def test_a_new_weight_takes_effect() -> None:
    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        await fake.put("user", "a", weight=1.0)
        await fake.put("user", "b", weight=1.0)
        await handle.start()
        assert Counter(handle.pick().id for _ in range(40)) == {"a": 20, "b": 20}
        await fake.put("user", "b", weight=3.0)
        await until(lambda: handle.revision == 3)
        counts = Counter(handle.pick().id for _ in range(40))
        assert 29 <= counts["b"] <= 31

    play(scene, balancer="smooth_weighted")


def test_a_flood_of_changes_to_a_large_service_puts_choosing_off_but_never_calls_who_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "CLIENT_REBUILD_FREE_COUNT", 10)
    monkeypatch.setattr(limits, "CLIENT_REBUILD_REST", 1e9)

    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        for n in range(32):
            await fake.put("user", f"i{n}", port=1 + n)
        await handle.start()
        await fake.put("user", "new")
        await fake.remove("user", "i0")
        await fake.put("user", "i1", verdict="draining", callable=False)
        await fake.put("user", "i2", port=99)
        await fake.put("user", "i3", port=4, metadata={"no": "reason"})
        await until(lambda: handle.revision == 37)
        last = handle.instances()[20].id
        handle.failed(handle.instances()[20], "connect")
        picked = {handle.pick().id for _ in range(200)}
        assert picked == {f"i{n}" for n in range(3, 32)} - {last}, "and the new one is not chosen yet"
        # A fifth of them: now it pays.
        await fake.remove("user", "i4")
        await until(lambda: handle.revision == 38)
        picked = {handle.pick().id for _ in range(200)}
        assert {"new", "i2"} <= picked
        assert not picked & {"i0", "i1", "i4", last}

    play(scene)


def test_what_was_put_off_is_done_after_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_REBUILD_FREE_COUNT", 10)
    monkeypatch.setattr(limits, "CLIENT_REBUILD_REST", 200)

    async def scene(fake: FakeRegistry, handle: ServiceHandle) -> None:
        for n in range(32):
            await fake.put("user", f"i{n}")
        await handle.start()
        for n in range(4):
            await fake.put("user", f"new{n}")
        await until(lambda: {f"new{n}" for n in range(4)} <= {handle.pick().id for _ in range(36)})

    play(scene)
