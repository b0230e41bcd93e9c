"""A process's registrations: all or nothing, one lease, one claim, and no quarrel with a successor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from fake_registry import FakeRegistry

from townhall.client.api import Registry
from townhall.client.definitions import Service
from townhall.client.registrar import Registrar
from townhall.model.errors import InvalidField, NotFound, Unreachable

KEY = ("default", "default", "user")
TWO = [Service(name="user", port=1), Service(name="admin", port=2)]


def play(scene: Callable[[FakeRegistry, Registrar], Awaitable[None]], services: list[Service] = TWO) -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            await scene(fake, Registrar(registry, services, address="127.0.0.1", ttl_ms=500))

    asyncio.run(main())


def test_all_hang_on_one_lease() -> None:
    async def scene(fake: FakeRegistry, registrar: Registrar) -> None:
        await registrar.register()
        leases = {one["lease"] for members in fake.instances.values() for one in members.values()}
        assert leases == {registrar.lease}
        assert fake.leases == {registrar.lease: 500}
        assert registrar.ttl_ms == 500
        assert [one.instance.id for one in registrar.registered if one] == ["user-127.0.0.1-1", "admin-127.0.0.1-2"]
        assert len(registrar.claim) == 32

    play(scene)


def test_one_refusal_undoes_all() -> None:
    async def scene(fake: FakeRegistry, registrar: Registrar) -> None:
        with pytest.raises(InvalidField):
            await registrar.register()
        assert not any(fake.instances.values())
        assert not any(registrar.registered)

    play(scene, [Service(name="user", port=1), Service(name="bad", port=99_999)])


def test_again_with_the_same_claim_is_the_same_incarnation() -> None:
    async def scene(fake: FakeRegistry, registrar: Registrar) -> None:
        await registrar.register()
        before = [one.incarnation for one in registrar.registered if one]
        assert await registrar.register_again() == []
        assert [one.incarnation for one in registrar.registered if one] == before

    play(scene)


def test_a_successor_is_left_in_peace_until_it_is_gone() -> None:
    async def scene(fake: FakeRegistry, registrar: Registrar) -> None:
        await registrar.register()
        await fake.put("user", "user-127.0.0.1-1", claim="another", incarnation=fake.position + 1, port=7)
        superseded = await registrar.register_again()
        assert [one.name for one in superseded] == ["user"]
        assert fake.instances[KEY]["user-127.0.0.1-1"]["port"] == 7
        await registrar.deregister()
        assert fake.instances[KEY], "nothing of the successor is removed"
        await fake.put("user", "user-127.0.0.1-1", verdict="down", callable=False)
        assert await registrar.register_again() == []
        assert fake.instances[KEY]["user-127.0.0.1-1"]["port"] == 1

    play(scene)


def test_an_answer_that_was_lost_does_not_look_like_a_successor() -> None:
    async def scene(fake: FakeRegistry, registrar: Registrar) -> None:
        await registrar.register()
        await fake.forget_leases()
        fake.faults.swallow = lambda asked: asked.path == "/instances"
        with pytest.raises(Unreachable):
            await registrar.register_again()
        assert fake.instances[KEY], "it was registered, and nobody heard"
        fake.faults.swallow = lambda asked: False
        assert await registrar.register_again() == []
        assert all(registrar.registered)

    play(scene)


def test_updates_outlive_a_registration_anew() -> None:
    async def scene(fake: FakeRegistry, registrar: Registrar) -> None:
        await registrar.register()
        await registrar.update(0, weight=3.0, metadata={"a": "1", "b": "2"}, tags=["t"])
        await registrar.update(0, metadata={"a": None})
        await fake.forget_leases()
        await registrar.register_again()
        found = fake.instances[KEY]["user-127.0.0.1-1"]
        assert (found["weight"], found["metadata"], found["tags"]) == (3.0, {"b": "2"}, ["t"])
        await registrar.deregister()
        with pytest.raises(NotFound):
            await registrar.update(0, weight=1.0)

    play(scene)


def test_draining_and_leaving() -> None:
    async def scene(fake: FakeRegistry, registrar: Registrar) -> None:
        await registrar.register()
        assert [one.state for one in await registrar.drain(deadline_ms=100)] == ["draining", "draining"]
        assert await registrar.deregister() == []
        assert not any(fake.instances.values())
        assert await registrar.deregister() == [], "there is nothing left to do"

    play(scene)
