"""Tokens and policies."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fake_registry import FakeRegistry

from townhall.client.access import Access
from townhall.client.api import Registry


def test_tokens_and_policies() -> None:
    answers: dict[tuple[str, str], Any] = {
        ("POST", "/access/bootstrap"): {"id": "i", "secret": "s"},
        ("GET", "/access/self"): {"id": "i"},
        ("GET", "/access/tokens"): {"tokens": []},
        ("POST", "/access/tokens"): {"id": "j", "secret": "t"},
        ("GET", "/access/tokens/j"): {"id": "j"},
        ("PUT", "/access/tokens/j"): {"id": "j"},
        ("DELETE", "/access/tokens/j"): None,
        ("GET", "/access/policies"): {"policies": []},
        ("PUT", "/access/policies/p"): None,
        ("DELETE", "/access/policies/p"): None,
    }

    async def main() -> None:
        async with FakeRegistry(canned=answers) as fake, Registry(fake.url) as registry:
            access: Access = registry.access
            assert (await access.bootstrap())["secret"] == "s"
            assert await access.self() == {"id": "i"}
            assert await access.tokens() == {"tokens": []}
            assert (await access.create_token({"policies": ["p"]}))["id"] == "j"
            assert (await access.token("j"))["id"] == "j"
            assert (await access.put_token("j", {"description": "d"}))["id"] == "j"
            assert json.loads(fake.asked[-1].body) == {"description": "d"}
            await access.delete_token("j")
            assert await access.policies() == {"policies": []}
            assert await access.put_policy("p", [{"resource": "service", "level": "read"}], description="x") == {}
            assert json.loads(fake.asked[-1].body) == {
                "rules": [{"resource": "service", "level": "read"}],
                "description": "x",
            }
            await access.delete_policy("p")
            assert len(fake.asked) == len(answers)

    asyncio.run(main())
