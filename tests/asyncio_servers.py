"""How servers of asyncio end in a test without leaving anything to the tests after it."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["close"]

_TURNS: Final = 10
"""From ``accept`` to the first step of a handler, and from ``writer.close`` to the closed socket, are some five each."""


async def close(server: asyncio.Server) -> None:
    """Stop listening, and let what has been accepted reach its handler.

    A handler that is cancelled before its first step never closes its transport. The socket is then found unclosed
    much later, in whatever test runs when it is collected.
    """
    server.close()
    for _ in range(_TURNS):
        await asyncio.sleep(0)
