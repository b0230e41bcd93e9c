"""aiohttp's server, found: registered when it listens, drained before it stops, every request counted.

``web.run_app`` closes its sockets first when a signal comes, so the signal is ours first (see ``asgi_app`` for why). It
takes signals by the event loop, where the previous handler cannot be asked for; but what it does then is known: it raises
``GracefulExit``, and so do we when we have left.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Unpack

from aiohttp import web
from aiohttp.typedefs import Middleware

from townhall.client.api import DEFAULT_URL
from townhall.client.attempts import NOT_ACTED_ON
from townhall.client.callbacks import call
from townhall.client.listening import listening_provider
from townhall.client.provider import Provider, ProviderOptions

__all__ = ["Registration", "register"]

_log = logging.getLogger("townhall.client")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def register(
    app: web.Application,
    urls: str | Sequence[str] = DEFAULT_URL,
    **options: Unpack[ProviderOptions],
) -> Registration:
    """Have an application registered while it runs; takes what ``Provider`` takes. Call it before the application runs.

    ``drain_on_stop`` and ``handle_signals`` are on. A start that cannot register fails.
    """
    registration = Registration(urls, **options)
    app.on_startup.append(registration.start)
    app.on_shutdown.append(registration.stop)
    app.middlewares.append(registration.counting)
    return registration


class Registration:
    """The parts of ``register``, for those who put them together themselves."""

    def __init__(
        self,
        urls: str | Sequence[str] = DEFAULT_URL,
        **options: Unpack[ProviderOptions],
    ) -> None:
        self._handle_signals = options.pop("handle_signals", True)
        self._on_stop = options.pop("on_stop", None)
        given: ProviderOptions = {"drain_on_stop": True, **options, "on_stop": self._refuse}
        self._make: Callable[[], Provider] = lambda: listening_provider(urls, given)
        self._refusing = False
        self._leaving: asyncio.Task[None] | None = None
        self.provider: Provider | None = None
        """While the application runs."""

    async def start(self, app: web.Application) -> None:
        """Register; we are called once the server listens. Raises as ``Provider.start`` does."""
        provider = self._make()
        await provider.start()
        self.provider = provider
        if self._handle_signals:
            loop = asyncio.get_running_loop()
            try:
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(number, self._received)
            except (RuntimeError, ValueError):
                _log.warning("signals are not handled: this event loop takes none here")

    async def stop(self, app: web.Application) -> None:
        """Drain and deregister, if that has not been done already."""
        if self.provider is not None:
            await self.provider.stop()

    @property
    def counting(self) -> Middleware:
        """The middleware that counts requests, which a stop waits for, and refuses those that come after it.

        WebSockets are not waited for: end them in ``on_shutdown``, as aiohttp has it. The last bytes of a plain answer
        are sent after middlewares are done; aiohttp itself waits for these.
        """

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            if self._refusing:
                headers = {NOT_ACTED_ON: "stopping", "Retry-After": "1"}
                refusal = web.Response(status=503, text="the service stops; ask another instance\n", headers=headers)
                refusal.force_close()
                return refusal
            if self.provider is None or request.headers.get("Upgrade", "").lower() == "websocket":
                return await handler(request)
            with self.provider.track():
                return await handler(request)

        return count

    async def _refuse(self) -> None:
        self._refusing = True
        await call(self._on_stop)

    def _received(self) -> None:
        if self._leaving is not None or self.provider is None:
            raise web.GracefulExit  # a second signal waits for nothing
        loop = asyncio.get_running_loop()
        self._leaving = loop.create_task(self.provider.stop(), name="townhall-leave")
        # Raised in a callback of the loop, GracefulExit ends run_app, as its own signal handler would.
        self._leaving.add_done_callback(_exit)


def _exit(task: asyncio.Task[None]) -> None:
    raise web.GracefulExit
