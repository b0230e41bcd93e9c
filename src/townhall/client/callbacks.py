"""Functions that an application hands us: plain ones and coroutine functions alike."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

__all__ = ["Callback", "call"]

Callback = Callable[[], Awaitable[object] | object]


async def call(callback: Callback | None) -> object:
    """What it returns, awaited where that is needed; None without one. Raises what it raises."""
    result = None if callback is None else callback()
    return await result if inspect.isawaitable(result) else result
