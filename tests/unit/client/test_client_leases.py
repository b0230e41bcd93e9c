"""Leases, one by one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fake_registry import FakeRegistry, Refusal

from townhall.client.api import Registry
from townhall.client.leases import Leases
from townhall.model.errors import LeaseNotFound, PeerMisbehaved
from townhall.model.lease import LeaseKind

LEASE = {"lease": "7", "ttl_ms": 500, "remaining_ms": 400, "instances": [["default", "default", "s", "a"]], "keys": 1}


def test_a_lease_s_life() -> None:
    answers: dict[tuple[str, str], Any] = {
        ("POST", "/leases"): {"lease": "7", "ttl_ms": 500},
        ("GET", "/leases/7"): LEASE,
        ("PUT", "/leases/7"): {"lease": "7", "ttl_ms": 500},
        ("DELETE", "/leases/7"): None,
        ("PUT", "/leases/8"): Refusal(404, "lease_not_found"),
    }

    async def main() -> None:
        async with FakeRegistry(canned=answers) as fake, Registry(fake.url) as registry:
            assert isinstance(registry.leases, Leases)
            assert (await registry.leases.grant(ttl_ms=500, lease="7")).lease == "7"
            assert json.loads(fake.asked[-1].body) == {"ttl_ms": 500, "id": "7"}
            await registry.leases.grant()
            assert json.loads(fake.asked[-1].body) == {}
            await registry.leases.grant(kind=LeaseKind.KEYS)
            assert json.loads(fake.asked[-1].body) == {"kind": "keys"}
            assert (await registry.leases.get("7")).instances == (("default", "default", "s", "a"),)
            assert (await registry.leases.renew("7")).ttl_ms == 500
            await registry.leases.revoke("7")
            with pytest.raises(LeaseNotFound):
                await registry.leases.renew("8")

    asyncio.run(main())


@pytest.mark.parametrize("answer", [[LEASE], {"leases": [LEASE]}])
def test_the_list(answer: object) -> None:
    async def main() -> None:
        async with FakeRegistry(canned={("GET", "/leases"): answer}) as fake, Registry(fake.url) as registry:
            (lease,) = await registry.leases.list()
            assert (lease.remaining_ms, lease.keys) == (400, 1)
            fake.canned["GET", "/leases"] = {"leases": 5}
            with pytest.raises(PeerMisbehaved):
                await registry.leases.list()

    asyncio.run(main())
