"""A drain is acknowledged when nobody calls any more by what was known before it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from backends import Backend
from fake_registry import FakeRegistry, until
from threaded import registry_in_a_thread

from townhall.client import acknowledging, blocking
from townhall.client.acknowledging import Acknowledging
from townhall.client.api import Registry
from townhall.client.consumer import Consumer
from townhall.client.picture import Picture, picture_of
from townhall.client.records import Instance
from townhall.model import limits
from townhall.model.instance import ServiceKey

USER = ServiceKey("default", "default", "user")
OTHER = ServiceKey("default", "default", "other")


class Told(Registry):
    """A registry that only hears acknowledgements."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9")
        self.revisions: list[dict[str, int]] = []

    async def acknowledge(self, subscriber: str, revisions: Mapping[ServiceKey, int]) -> None:
        self.revisions.append({key.name: revision for key, revision in revisions.items()})


def shown(revision: int, **verdicts: str) -> Picture:
    return picture_of(
        USER,
        revision,
        [
            Instance(id=name, service="user", address="127.0.0.1", port=1, verdict=word, callable=word == "up")
            for name, word in verdicts.items()
        ],
    )


async def _acknowledging(told: Told) -> tuple[Acknowledging, asyncio.Task[None]]:
    one = Acknowledging(told)
    one.subscriber = "me"
    return one, asyncio.create_task(one.run())


def test_a_call_at_a_draining_instance_puts_off_this_service_alone() -> None:
    async def main() -> None:
        told, calling = Told(), {"a", "b"}
        one, task = await _acknowledging(told)
        one.add(shown(7, a="draining", b="up"), [lambda: (), lambda: calling])
        one.add(picture_of(OTHER, 3, []), [])
        await until(lambda: told.revisions)
        assert told.revisions == [{"other": 3}]
        one.add(shown(9, a="draining", b="up", c="up"), [lambda: calling])
        one.add(picture_of(OTHER, 4, []), [])
        await until(lambda: len(told.revisions) == 2)
        assert told.revisions[1] == {"other": 4}
        calling.discard("a")
        await until(lambda: len(told.revisions) == 3)
        assert told.revisions[2] == {"user": 9}, "calls at those that do not drain hinder nothing"
        task.cancel()

    asyncio.run(main())


def test_who_drains_no_more_puts_off_nothing() -> None:
    async def main() -> None:
        told = Told()
        one, task = await _acknowledging(told)
        for verdict in ("down", "suspect", "up", "maintenance"):
            one.add(shown(7, a=verdict), [lambda: ("a", "gone")])
            await until(lambda: told.revisions)
            assert told.revisions.pop() == {"user": 7}
        task.cancel()

    asyncio.run(main())


def test_a_call_that_takes_long_is_not_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        told, looks = Told(), 0

        def calling() -> tuple[str, ...]:
            nonlocal looks
            looks += 1
            return ("a",)

        one, task = await _acknowledging(told)
        one.add(shown(7, a="draining"), [calling])
        await until(lambda: told.revisions)
        assert looks == 1 + limits.CLIENT_ACKNOWLEDGE_WAIT_MS / 20
        one.add(shown(8, a="draining", b="draining"), [calling])
        await until(lambda: len(told.revisions) == 2)
        assert looks == 2 + limits.CLIENT_ACKNOWLEDGE_WAIT_MS / 20
        task.cancel()

    # Steps are counted, however long each takes.
    monkeypatch.setattr(acknowledging, "_STEP_S", 0.0)
    asyncio.run(main())


@pytest.mark.parametrize("way", ["call", "open", "request", "view"])
def test_a_consumer_that_has_chosen_and_not_been_answered_does_not_acknowledge(way: str) -> None:
    """Between the choice and the writing of the request anything may pass: here, the whole drain."""

    async def main() -> None:
        async with (
            FakeRegistry() as fake,
            Backend("a", hang=True) as backend,
            Consumer(fake.url, snapshot_directory=None) as consumer,
        ):
            handle = consumer["user"]
            await fake.put("user", "a", port=backend.port)
            await handle.start()
            await until(lambda: fake.acknowledged == [{"user": 1}])
            chosen, answer = asyncio.Event(), asyncio.Event()

            async def function(instance: Instance) -> str:
                chosen.set()
                await answer.wait()
                return instance.id

            if way == "request":
                call = asyncio.create_task(handle.get("/", retries=0))
                await until(lambda: backend.requests)
            else:
                view = handle.with_interface("x") if way == "view" else handle
                await view.start()
                call = asyncio.create_task(view.open(function) if way == "open" else view.call(function))
                await chosen.wait()
            await fake.put("user", "a", port=backend.port, verdict="draining", callable=False)
            await until(lambda: handle.revision == 2)
            # The same service over another handle of the same mirror, and its end, hinder and hasten nothing.
            async with Consumer(fake.url, snapshot_directory=None) as other:
                await other["user"].start()
            for _ in range(20):
                await asyncio.sleep(0)
            assert fake.acknowledged == [{"user": 1}]
            assert list(handle.chooser.unanswered()) == ["a"]
            answer.set()
            if way == "request":
                await backend.die()
            await asyncio.wait({call})
            assert not handle.chooser.unanswered()
            await until(lambda: {"user": 2} in fake.acknowledged)
            if way == "open":
                # Its stream goes on, which the instance knows of by itself.
                assert handle.chooser.tally.running == 1
                call.result().close()
            assert handle.chooser.tally.running == 0
            assert call.exception() is None or way == "request"

    asyncio.run(main())


def test_a_thread_that_chose_before_the_drain_and_begins_after_it_chooses_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with registry_in_a_thread("a", "b") as (url, _), blocking.Consumer(url, snapshot_directory=None) as consumer:
        handle = consumer["user"]
        handle.wait_callable(2)
        inner = handle._handle
        late = next(one for one in inner.instances() if one.id == "a")
        real, picks = inner.chooser.pick, [late]
        monkeypatch.setattr(inner.chooser, "pick", lambda key=None: picks.pop() if picks else real(key))
        monkeypatch.setattr(inner, "leaving", lambda instance: instance is late)
        assert handle.call(lambda instance: instance.id) == "b"
        assert not inner.chooser.unanswered()
        assert inner.chooser.tally.running == 0


def test_leaving_is_who_must_not_be_called_while_others_may() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Consumer(fake.url, snapshot_directory=None) as consumer:
            handle = consumer["user"]
            await fake.put("user", "a", port=1)
            await handle.start()
            (known,) = handle.instances()
            assert not handle.leaving(known)
            await fake.put("user", "a", port=1, verdict="draining", callable=False)
            await until(lambda: handle.revision == 2)
            assert not handle.leaving(known), "there is nobody else"
            await fake.put("user", "b", port=2)
            await until(lambda: handle.revision == 3)
            assert handle.leaving(known)

    asyncio.run(main())
