"""gRPC servers, found: registered while they serve, and left in the order that costs no call.

The order of a stop: the health service says NOT_SERVING, everybody is told that we drain and has acknowledged it, then
``server.stop`` takes no new calls and waits for the running ones, then we deregister. With an interceptor (``grpc_counting``)
new calls are refused first, the counted ones waited for, and the server is stopped when none of them runs: what is not
counted, health watches, does not hold it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from townhall.client import blocking
from townhall.client.api import DEFAULT_URL
from townhall.client.callbacks import call
from townhall.client.grpc_counting import BlockingCounting, CallCount, Counting
from townhall.client.provider import Provider, ProviderOptions

__all__ = ["BlockingRegistered", "Registered"]

_GRACE_S = 30.0
_LAST_GRACE_S = 1.0
"""For calls that are not counted, when no counted one runs any more."""
_CALLS_PAUSE_S = 0.02


class Registered:
    """``async with Registered(server, URL, service="user", port=50051) as it: await it.wait_stopped()``, for grpc.aio.

    Starts the server, then registers; takes what ``Provider`` takes, ``drain_on_stop`` and ``handle_signals`` are on.
    ``servicer`` is the server's ``grpc_health.v1.health.aio.HealthServicer``, if it has one; ``counting`` the
    ``Counting`` among its interceptors. ``drain_deadline`` (30 s) is for the drain and the running calls together.
    """

    def __init__(
        self,
        server: Any,
        urls: str | Sequence[str] = DEFAULT_URL,
        *,
        servicer: Any = None,
        counting: Counting | None = None,
        **options: Unpack[ProviderOptions],
    ) -> None:
        given = _given(options, servicer, None if counting is None else counting.calls, self._stop_server)
        self._server = server
        self.provider = Provider(urls, **given)

    async def __aenter__(self) -> Self:
        await self._server.start()
        try:
            await self.provider.start()
        except BaseException:
            await self._server.stop(None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Leave; idempotent."""
        await self.provider.stop()
        # Whatever happened, the server does not go on; a second stop does nothing.
        await self._server.stop(None)

    async def wait_stopped(self) -> None:
        """Returns when a stop, by a signal or by ``stop``, is over."""
        await self.provider.wait_stopped()

    async def _stop_server(self, grace_s: float) -> None:
        await self._server.stop(grace_s)


class BlockingRegistered:
    """``with BlockingRegistered(server, URL, service="user", port=50051): server.wait_for_termination()``, for grpc.

    As ``Registered``. With ``handle_signals`` (main thread only) the first SIGTERM or SIGINT drains and stops the server and
    is then delivered to whoever handled it before; usually nobody, and the process ends.
    """

    def __init__(
        self,
        server: Any,
        urls: str | Sequence[str] = DEFAULT_URL,
        *,
        servicer: Any = None,
        counting: BlockingCounting | None = None,
        **options: Unpack[ProviderOptions],
    ) -> None:
        given = _given(options, servicer, None if counting is None else counting.calls, self._stop_server)
        self._server = server
        self.provider = blocking.Provider(urls, **given)

    def __enter__(self) -> Self:
        self._server.start()
        try:
            self.provider.start()
        except BaseException:
            self._server.stop(None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave; idempotent."""
        self.provider.stop()
        self._server.stop(None)

    async def _stop_server(self, grace_s: float) -> None:
        """In the SDK's loop, which must not wait for the server's threads itself."""
        stopped = self._server.stop(grace_s)
        await asyncio.to_thread(stopped.wait, grace_s)


def _given(
    options: ProviderOptions, servicer: Any, calls: CallCount | None, stop_server: Callable[[float], Awaitable[object]]
) -> ProviderOptions:
    """The provider's options: while stopping, the application is told first and its server stopped then."""
    application_stops = options.pop("on_stop", None)
    grace_s = options.get("drain_deadline", _GRACE_S)

    async def on_stop() -> None:
        if calls is not None:
            calls.refuse()
        await call(application_stops)
        if calls is None or not calls.asked:
            await stop_server(grace_s)
            return
        try:
            while calls.running:  # noqa: ASYNC110
                await asyncio.sleep(_CALLS_PAUSE_S)
        finally:
            # Cancelled at the deadline, it ends the server all the same.
            await stop_server(_LAST_GRACE_S)

    leave: ProviderOptions = {} if servicer is None else {"on_leave": servicer.enter_graceful_shutdown}
    usual: ProviderOptions = {"drain_on_stop": True, "handle_signals": True, "drain_deadline": _GRACE_S}
    if calls is not None:
        usual["jobs"] = _jobs(calls, options.pop("jobs", None))
    return {**usual, **leave, **options, "on_stop": on_stop}


def _jobs(calls: CallCount, others: Callable[[], int] | None) -> Callable[[], int]:
    """What a stop waits for: the calls, and what the application counts itself."""
    return lambda: calls.running + (0 if others is None else others())
