"""ASGI applications that are found: registered when they serve, drained before they stop, every request counted.

The order of a stop is the point. A server such as uvicorn, told to stop, first closes its socket and only then tells the
application (lifespan); deregistering there is too late for those who still call. So the signal is ours first: drain, refuse
what comes after, wait for what runs, deregister, and only then is the signal delivered to the server, which nobody calls
any more. A server that stops without a signal (a limit of requests, a reload) gets the same from its lifespan, later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Unpack

from townhall.client.api import DEFAULT_URL
from townhall.client.attempts import NOT_ACTED_ON
from townhall.client.callbacks import call
from townhall.client.listening import listening_provider
from townhall.client.provider import Provider, ProviderOptions
from townhall.client.well_known import asgi
from townhall.model.errors import TownhallError

__all__ = ["App", "Registered", "Registration"]

_log = logging.getLogger("townhall.client")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Lifespan = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]

_SERVICE_RESTART = 1012
"""Close code of a WebSocket (registered by IANA): come again, to another one."""


class Registration:
    """The registration of a process that serves an application, for frameworks that take its parts.

    ``FastAPI(lifespan=registration.lifespan)`` or ``lifespan=registration.around(my_lifespan)``, and
    ``app.add_middleware(registration.counting)``. All else is as with ``Registered``.
    """

    def __init__(
        self,
        urls: str | Sequence[str] = DEFAULT_URL,
        **options: Unpack[ProviderOptions],
    ) -> None:
        handle_signals = options.pop("handle_signals", True)
        self._urls = urls
        self._on_stop = options.pop("on_stop", None)
        self._options: ProviderOptions = {"drain_on_stop": True, "forward_signals": handle_signals, **options}
        offered = [options.get("interfaces"), *(one.interfaces for one in options.get("services", ()))]
        self._documents = [one for one in offered if one is not None]
        if self._documents and (port := options.get("port")):
            self._options.setdefault("interfaces_port", port)
        self._refusing = asyncio.Event()
        self.provider: Provider | None = None
        """While the application runs."""

    async def start(self) -> None:
        """Register; we are called once the server listens. Raises as ``Provider.start`` does."""
        self._refusing.clear()
        options: ProviderOptions = {**self._options, "on_stop": self._refuse}
        provider = listening_provider(self._urls, options)
        await provider.start()
        self.provider = provider

    async def stop(self) -> None:
        """Drain and deregister, if that has not been done already. Idempotent."""
        if self.provider is not None:
            await self.provider.stop()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """A lifespan of Starlette's kind."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    def around(self, inner: Lifespan) -> Lifespan:
        """The same around the application's own, which starts before we are found and ends after we are gone."""

        @contextlib.asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[Mapping[str, Any] | None]:
            async with inner(app) as state, self.lifespan(app):
                yield state

        return lifespan

    def counting(self, app: App) -> App:
        """The application with its requests and WebSockets counted, which a stop waits for, and refused after it.

        With ``interfaces=`` it serves them as well (``well_known``).
        """
        if self._documents:
            app = asgi(self._documents, app)

        async def counted(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
            if scope["type"] not in ("http", "websocket"):
                await app(scope, receive, send)
            elif self._refusing.is_set():
                await _refuse(scope, receive, send)
            elif self.provider is None:
                await app(scope, receive, send)
            else:
                with self.provider.track():
                    if scope["type"] == "websocket":
                        await _Socket(receive, send, self._refusing).run(app, scope)
                    else:
                        await app(scope, receive, send)

        return counted

    async def _refuse(self) -> None:
        self._refusing.set()
        await call(self._on_stop)


class Registered:
    """``app = Registered(app, "http://127.0.0.1:7500", service="user", port=8000)``: the whole, around any application.

    Takes what ``Provider`` takes. ``drain_on_stop`` and ``handle_signals`` are on: SIGTERM and SIGINT drain us first and
    reach the server afterwards; a second one reaches it at once. ``port`` is where the server listens, in one process.
    A start that cannot register fails, unless the server ignores failed starts (uvicorn's ``--lifespan auto`` does not).
    """

    def __init__(
        self,
        app: App,
        urls: str | Sequence[str] = DEFAULT_URL,
        **options: Unpack[ProviderOptions],
    ) -> None:
        self.registration = Registration(urls, **options)
        self.app = app
        self._counted = self.registration.counting(app)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """As the application, whose lifespan ours encloses."""
        if scope["type"] == "lifespan":
            await _Lifespan(self.app, self.registration, receive, send).run(scope)
        else:
            await self._counted(scope, receive, send)

    def __getattr__(self, name: str) -> Any:
        """Whatever the application has (``app.state``, ``app.router``)."""
        return getattr(self.app, name)


class _Lifespan:
    """The lifespan protocol between a server and an application, with a registration inside it."""

    def __init__(self, app: App, registration: Registration, receive: Receive, send: Send) -> None:
        self._app = app
        self._registration = registration
        self._receive = receive
        self._send = send
        self._answered = False
        """The start is over, for better or worse."""
        self._failed = False

    async def run(self, scope: MutableMapping[str, Any]) -> None:
        """As long as the application lives."""
        try:
            await self._app(scope, self._from_server, self._to_server)
        except Exception as error:
            if self._answered:
                raise
            # An application without a lifespan says so by an exception (Django does); ours is needed all the same.
            _log.debug("the application has no lifespan: %r", error)
            await self._alone()

    async def _from_server(self) -> Message:
        if self._failed:
            # The application has started and must clean up, although its server will not ask.
            return {"type": "lifespan.shutdown"}
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            await self._registration.stop()
        return message

    async def _to_server(self, message: Message) -> None:
        if self._failed:
            return
        if message["type"] == "lifespan.startup.complete":
            await self._start()
            return
        self._answered = True
        await self._send(message)

    async def _start(self) -> None:
        self._answered = True
        try:
            await self._registration.start()
        except TownhallError as error:
            self._failed = True
            await self._send({"type": "lifespan.startup.failed", "message": f"not registered: {error}"})
        else:
            await self._send({"type": "lifespan.startup.complete"})

    async def _alone(self) -> None:
        """Without the application. It may have taken the first message; a server sends it once and waits."""
        await self._start()
        if self._failed:
            return
        while (await self._from_server())["type"] != "lifespan.shutdown":
            pass
        await self._send({"type": "lifespan.shutdown.complete"})


class _Socket:
    """A WebSocket that is closed when its service stops: its client comes again, to another instance."""

    def __init__(self, receive: Receive, send: Send, refusing: asyncio.Event) -> None:
        self._receive = receive
        self._send = send
        self._refusing = refusing
        self._closed = False
        self._receiving: asyncio.Task[Message] | None = None

    async def run(self, app: App, scope: MutableMapping[str, Any]) -> None:
        """The application, until it ends."""
        try:
            await app(scope, self._from_client, self._to_client)
        finally:
            if self._receiving is not None:
                self._receiving.cancel()

    async def _from_client(self) -> Message:
        """The next message, or a disconnect when we stop."""
        if self._receiving is None:
            self._receiving = asyncio.ensure_future(self._receive())
        stopping = asyncio.ensure_future(self._refusing.wait())
        try:
            await asyncio.wait({self._receiving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if self._receiving.done():
            message, self._receiving = self._receiving.result(), None
            return message
        if not self._closed:
            await self._send({"type": "websocket.close", "code": _SERVICE_RESTART, "reason": "the service stops"})
            self._closed = True
        return {"type": "websocket.disconnect", "code": _SERVICE_RESTART, "reason": "the service stops"}

    async def _to_client(self, message: Message) -> None:
        if self._closed:
            if message["type"] == "websocket.close":
                return
            raise OSError("the WebSocket was closed because the service stops")
        await self._send(message)


async def _refuse(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Nothing was done for this call: another instance may be asked, whatever the method."""
    if scope["type"] == "websocket":
        await receive()  # its connect
        await send({"type": "websocket.close", "code": _SERVICE_RESTART, "reason": "the service stops"})
        return
    headers = [
        (b"content-type", b"text/plain"),
        (b"connection", b"close"),
        (b"retry-after", b"1"),
        (NOT_ACTED_ON.encode(), b"stopping"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"the service stops; ask another instance\n"})
