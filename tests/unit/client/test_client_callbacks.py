"""What an application hands us may be plain or a coroutine function."""

from __future__ import annotations

import asyncio

import pytest

from townhall.client.callbacks import call


def test_plain_and_coroutine_functions_and_none() -> None:
    async def answer() -> str:
        return "awaited"

    def fail() -> None:
        raise LookupError("no")

    async def main() -> None:
        assert await call(None) is None
        assert await call(lambda: "plain") == "plain"
        assert await call(answer) == "awaited"
        with pytest.raises(LookupError):
            await call(fail)

    asyncio.run(main())
