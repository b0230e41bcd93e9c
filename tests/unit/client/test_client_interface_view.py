"""Routing by what instances offer: a roll-out with two halves, documents that are missing, and callers that insist."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from fake_registry import FakeRegistry, Refusal, until

from townhall.client.consumer import Consumer
from townhall.client.handle import ServiceHandle
from townhall.client.interface_store import PREFIX
from townhall.client.interface_view import InterfaceView
from townhall.client.interfaces import REVISION_KEY, Interfaces
from townhall.model import limits
from townhall.model.errors import NoInstance, OverLimit

OLD, NEW = Interfaces(methods=["user.Users/Get"]), Interfaces(methods=["user.Users/Get", "user.Users/Find"])


def store(fake: FakeRegistry, *documents: Interfaces) -> None:
    for one in documents:
        fake.keys[PREFIX + one.revision] = {"value": one.data, "mod_revision": 1, "lease": None}


async def rollout(fake: FakeRegistry) -> None:
    """Two old instances, two new ones, and one that names no revision."""
    for name, document in (("o1", OLD), ("o2", OLD), ("n1", NEW), ("n2", NEW)):
        await fake.put("user", name, metadata={REVISION_KEY: document.revision})
    await fake.put("user", "plain")


def consuming(fake: FakeRegistry, **options: Any) -> Consumer:
    return Consumer(fake.url, snapshot_directory=None, **options)


def picked(handle: ServiceHandle, count: int = 60) -> Counter[str]:
    return Counter(handle.pick().id for _ in range(count))


def test_the_halves_of_a_rollout_are_told_apart() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, consuming(fake) as consumer:
            store(fake, OLD, NEW)
            await rollout(fake)
            users = consumer["user"]
            assert await users.interfaces() == {OLD.revision: OLD, NEW.revision: NEW}
            finders = users.with_interface("user.Users/Find")
            assert finders is users.with_interface("user.Users/Find")
            await finders.start()
            assert picked(finders).keys() == {"n1", "n2", "plain"}
            assert picked(users.with_interface("user.Users")).keys() == {"o1", "o2", "n1", "n2", "plain"}
            assert {users.pick(supporting="user.Users/Find").id for _ in range(20)} == {"n1", "n2", "plain"}
            insisting = users.with_interface("user.Users/Find", insist=True)
            assert picked(insisting) == {"n1": 30, "n2": 30}
            assert picked(users).keys() == {"o1", "o2", "n1", "n2", "plain"}
            # The roll-out goes on: the last old ones are replaced.
            await fake.put("user", "o1", metadata={REVISION_KEY: NEW.revision})
            await fake.remove("user", "n1")
            await until(lambda: picked(insisting).keys() == {"o1", "n2"})
            assert {one.id for one in insisting.instances()} == {"o1", "n2"}

    asyncio.run(main())


def test_a_missing_document_hides_nobody_unless_the_caller_insists() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, consuming(fake, start_timeout=0.2) as consumer:
            store(fake, OLD)
            fake.faults.refuse = lambda asked: Refusal(503, "unavailable") if NEW.revision in asked.path else None
            await rollout(fake)
            users = consumer["user"]
            finders = users.with_interface("user.Users/Find")
            insisting = users.with_interface("user.Users/Find", insist=True)
            await finders.start()
            assert picked(finders).keys() == {"n1", "n2", "plain"}
            assert list(await users.interfaces(budget_s=0.05)) == [OLD.revision]
            await insisting.start()
            with pytest.raises(NoInstance, match="known to offer") as refused:
                insisting.pick()
            assert refused.value.fields["why"] == "not_offered"
            # It arrives at last: nobody had to ask again, and who waits is told.
            waiting = asyncio.create_task(insisting.wait_callable(budget_s=120))
            store(fake, NEW)
            fake.faults.refuse = lambda asked: None
            await waiting
            assert picked(insisting).keys() == {"n1", "n2"}

    asyncio.run(main())


def test_when_no_instance_offers_it_the_reason_is_given() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, consuming(fake) as consumer:
            store(fake, OLD)
            await fake.put("user", "o1", metadata={REVISION_KEY: OLD.revision})
            users = consumer["user"]
            finders = users.with_interface("user.Users/Find")
            with pytest.raises(NoInstance) as refused:
                finders.pick()
            assert refused.value.fields["why"] == "not_started"
            await finders.start()
            with pytest.raises(NoInstance, match=f"1 of revision {OLD.revision}"):
                finders.pick()
            with pytest.raises(NoInstance, match="known to offer"):
                await finders.call(lambda instance: asyncio.sleep(0))
            with pytest.raises(NoInstance) as refused:
                await consumer["other"].with_interface("x").call(lambda instance: asyncio.sleep(0))
            assert refused.value.fields["why"] == "unknown_service"

    asyncio.run(main())


def test_calls_through_a_view_are_counted_with_all_others() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, consuming(fake, balancer="least_outstanding") as consumer:
            store(fake, OLD, NEW)
            await rollout(fake)
            users = consumer["user"]
            finders = users.with_interface("user.Users/Find", insist=True)
            await finders.start()
            running = asyncio.Event()

            async def hang(instance: Any) -> str:
                await running.wait()
                return str(instance.id)

            calls = [asyncio.create_task(users.call(hang)) for _ in range(5)]
            await until(lambda: len(users.chooser._load._running) == 5)  # type: ignore[union-attr]
            assert len(finders.chooser._load._running) == 5  # type: ignore[union-attr]
            calls += [asyncio.create_task(finders.call(hang)) for _ in range(2)]
            await until(lambda: sum(users.chooser._load._running.values()) == 7)  # type: ignore[union-attr]
            running.set()
            assert Counter(await asyncio.gather(*calls[5:])) == {"n1": 1, "n2": 1}
            await asyncio.gather(*calls)
            assert users.chooser._load._running == finders.chooser._load._running == {}  # type: ignore[union-attr]

    asyncio.run(main())


def test_a_failure_through_a_view_is_known_to_all() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, consuming(fake) as consumer:
            store(fake, OLD, NEW)
            await rollout(fake)
            users = consumer["user"]
            finders, insisting = (
                users.with_interface("user.Users/Find"),
                users.with_interface("user.Users/Find", insist=True),
            )
            await finders.start()
            await insisting.start()

            async def fail_first(instance: Any) -> str:
                if instance.id == "n1":
                    raise ConnectionResetError
                return str(instance.id)

            # Retries stay within the view.
            assert {await insisting.call(fail_first) for _ in range(4)} == {"n2"}
            assert "n1" not in picked(users) | picked(finders) | picked(insisting)
            await until(lambda: fake.reports)
            assert finders.chooser.budget is users.chooser.budget

    asyncio.run(main())


def test_views_are_limited_and_end_with_the_consumer() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            store(fake, OLD, NEW)
            await rollout(fake)
            async with consuming(fake) as consumer:
                users = consumer["user"]
                view = users.with_interface("0", insist=True)
                await view.start()
                assert isinstance(view, InterfaceView)
                assert view.with_interface("user.Users") is users.with_interface("user.Users")
                for number in range(limits.CLIENT_INTERFACES_VIEWS_MAX - 2):
                    users.with_interface(str(number))
                with pytest.raises(OverLimit):
                    users.with_interface("one more")
            with pytest.raises(NoInstance):
                view.pick()
            assert view.instances() == ()

    asyncio.run(main())


def test_metadata_that_is_no_revision_is_as_none() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, consuming(fake) as consumer:
            await fake.put("user", "evil", metadata={REVISION_KEY: "../../leases"})
            view = consumer["user"].with_interface("x")
            await view.start()
            assert view.pick().id == "evil"
            assert await consumer["user"].interfaces() == {}
            assert not [one for one in fake.asked if one.path.startswith("/kv")]

    asyncio.run(main())


def test_sources_without_registry_have_no_interfaces() -> None:
    async def main() -> None:
        async with consuming(FakeRegistry(port=1)) as consumer:
            users = consumer["static://127.0.0.1:8001"]
            assert await users.interfaces() == {}
            view = users.with_interface("x")
            await view.start()
            assert view.pick().port == 8001

    asyncio.run(main())
