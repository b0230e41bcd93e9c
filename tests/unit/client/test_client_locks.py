"""Locks and elections."""

from __future__ import annotations

import asyncio
import json

import pytest
from fake_registry import FakeRegistry, Refusal

from townhall.client.api import Registry
from townhall.client.locks import Locks
from townhall.model.errors import Conflict


def test_a_lock() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            assert isinstance(registry.locks, Locks)
            fake.canned = {
                ("POST", "/locks/a/b"): {"held": True, "fence": 3, "key": "k"},
                ("GET", "/locks/a/b"): {"holder": None, "waiters": 0, "fence": 3},
                ("DELETE", "/locks/a/b"): None,
            }
            assert (await registry.locks.acquire("a/b", "7", value="me", wait_ms=10))["fence"] == 3
            assert json.loads(fake.asked[-1].body) == {"lease": "7", "value": "me", "wait_ms": 10}
            assert (await registry.locks.get("a/b"))["waiters"] == 0
            await registry.locks.release("a/b", "7")
            assert fake.asked[-1].one("lease") == "7"
            fake.canned["POST", "/locks/a/b"] = Refusal(409, "conflict", "held")
            fake.canned["POST", "/locks/a/b"].problem["holder"] = {"lease": "9"}
            with pytest.raises(Conflict) as caught:
                await registry.locks.acquire("a/b", "7")
            assert caught.value.fields["holder"] == {"lease": "9"}

    asyncio.run(main())


def test_an_election() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            fake.canned = {("PUT", "/elections/boss"): {"held": True}, ("GET", "/elections/boss"): {}}
            assert await registry.elections.proclaim("boss", "7", "me") == {"held": True}
            assert json.loads(fake.asked[-1].body) == {"lease": "7", "value": "me"}
            async with await registry.elections.watch("boss"):
                assert fake.asked[-1].query == [("watch", "1")]

    asyncio.run(main())
