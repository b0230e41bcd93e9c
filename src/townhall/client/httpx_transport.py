"""httpx over Townhall: transports that choose an instance for each request, and another one when that fails.

Both are a Consumer's ``open`` around an ordinary httpx transport, which keeps the connections. What an instance did wrong
is told to the Consumer in our words (``Unreachable``) and to the caller in httpx's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Unpack, cast

import httpx

from townhall.client.attempts import NOT_ACTED_ON, OVERLOADED
from townhall.client.handle import CallOptions
from townhall.client.http import IDEMPOTENT
from townhall.client.opened import Opened
from townhall.client.records import Instance
from townhall.client.routes import SCHEME, Routes
from townhall.model.errors import TownhallError, Unreachable
from townhall.model.instance import ServiceKey

if TYPE_CHECKING:
    from townhall.client import blocking
    from townhall.client.consumer import Consumer

__all__ = ["BlockingTransport", "Transport", "TransportOptions"]

EXTENSION = "townhall"
"""Of a request: its own ``CallOptions``. Of a response: the ``Instance`` that gave it."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
_CALLERS_FAULT = (httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.ProxyError)


class TransportOptions(CallOptions, total=False):
    """``CallOptions`` for every request, and which hosts are services. ``hedge`` is not obeyed: answers are streams."""

    suffix: str
    """See ``routes``."""
    services: Mapping[str, str | ServiceKey]
    """Host → service, for names that no host can spell."""
    scheme: str
    """How instances are spoken to for ``townhall://`` URLs; default http."""


class _Failed(Unreachable):
    """An attempt that is the instance's fault, with what httpx has to say of it."""

    def __init__(self, *, kind: str, sent: bool, response: httpx.Response | None = None) -> None:
        super().__init__("the instance failed", kind=kind, sent=sent)
        self.response = response


class _Plan:
    """One request, on its way to whichever instance: what both transports share."""

    def __init__(self, service: str | ServiceKey, request: httpx.Request, options: TransportOptions) -> None:
        self.service = service
        self.request = request
        self._scheme = options.get("scheme", "http") if request.url.scheme == SCHEME else request.url.scheme
        own = {**options, **request.extensions.get(EXTENSION, {})}
        terms = cast("CallOptions", {name: own[name] for name in CallOptions.__optional_keys__ if name in own})
        terms.pop("hedge", None)
        # A body that comes from a generator exists once; one that was not sent is still whole.
        repeatable = isinstance(request.stream, httpx.ByteStream)
        terms["idempotent"] = bool(terms.get("idempotent", request.method in IDEMPOTENT)) and repeatable
        self.terms = terms
        self.refused: httpx.Response | None = None
        """An answer that said: not now. The next attempt's takes its place."""

    def at(self, instance: Instance, *, try_timeout_s: float | None = None) -> httpx.Request:
        """The same request, addressed to an instance; the Host field stays as the caller has it."""
        url = self.request.url.copy_with(scheme=self._scheme, host=instance.address, port=instance.port or None)
        extensions = self.request.extensions
        if self._scheme == "https":
            extensions = {"sni_hostname": self.request.url.host, **extensions}
        if try_timeout_s is not None:
            given = extensions.get("timeout", {})
            waits = {name: given.get(name) for name in ("connect", "read", "write", "pool")}
            shorter = {
                name: try_timeout_s if wait is None else min(wait, try_timeout_s) for name, wait in waits.items()
            }
            extensions = {**extensions, "timeout": shorter}
        return httpx.Request(
            self.request.method, url, headers=self.request.headers, stream=self.request.stream, extensions=extensions
        )

    def judged(self, response: httpx.Response) -> httpx.Response:
        """The response, if it is an answer. Raises ``_Failed`` for one that asks to go elsewhere."""
        if response.status_code in OVERLOADED:
            self.refused = response
            raise _Failed(kind="5xx", sent=NOT_ACTED_ON not in response.headers, response=response)
        return response

    def error(self, error: Exception) -> httpx.TransportError:
        """What the caller is told of the last attempt's failure, or of there being nobody to attempt it at."""
        if isinstance(error, httpx.TransportError):
            return error
        cause = error.__cause__
        if isinstance(error, _Failed) and isinstance(cause, httpx.TransportError):
            return cause
        if isinstance(error, TimeoutError):
            return httpx.ReadTimeout(f"{self.service} did not answer in time", request=self.request)
        return httpx.ConnectError(str(error), request=self.request)


def _told(error: httpx.TransportError) -> Exception:
    """The same as the Consumer understands it; itself when it is not the instance's fault."""
    if isinstance(error, _CALLERS_FAULT):
        return error
    sent = not isinstance(error, _NOT_SENT)
    return _Failed(kind=_kind(error), sent=sent)


def _kind(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "timeout"
    return "reset" if not isinstance(error, _NOT_SENT) else "connect"


class Transport(httpx.AsyncBaseTransport):
    """``httpx.AsyncClient(transport=Transport(consumer))``: hosts that are services are found by the consumer.

    Everything else goes through ``inner`` unchanged. Needs asyncio (not trio). The consumer stays the caller's to close,
    the inner transport is closed with this one.
    """

    def __init__(
        self,
        consumer: Consumer,
        *,
        inner: httpx.AsyncBaseTransport | None = None,
        **options: Unpack[TransportOptions],
    ) -> None:
        self._consumer = consumer
        self._inner = inner or httpx.AsyncHTTPTransport()
        self._options = options
        self._routes = Routes(options.get("suffix", ""), options.get("services", {}))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send to an instance, and again to others within the options. Raises httpx's TransportErrors alone."""
        service = self._routes.service(request.url.scheme, request.url.host, request.url.port)
        if service is None:
            return await self._inner.handle_async_request(request)
        plan = _Plan(service, request, self._options)

        async def attempt(instance: Instance) -> httpx.Response:
            await self._drop(plan)
            try:
                return plan.judged(await self._inner.handle_async_request(plan.at(instance)))
            except httpx.TransportError as error:
                raise _told(error) from error

        try:
            opened = await self._consumer[service].open(attempt, **plan.terms)
        except _Failed as error:
            if error.response is not None:
                plan.refused = None
                return error.response
            raise plan.error(error) from error
        except (TownhallError, OSError) as error:
            raise plan.error(error) from error
        finally:
            await self._drop(plan)
        response = opened.value
        response.extensions[EXTENSION] = opened.instance
        response.stream = _Stream(cast("httpx.AsyncByteStream", response.stream), opened)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def _drop(self, plan: _Plan) -> None:
        refused, plan.refused = plan.refused, None
        if refused is not None:
            await refused.aclose()


class _Stream(httpx.AsyncByteStream):
    """The body of an answer; its end is the end of the call."""

    def __init__(self, inner: httpx.AsyncByteStream, opened: Opened[httpx.Response]) -> None:
        self._inner = inner
        self._opened = opened

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._inner:
                yield piece
        except httpx.TransportError as error:
            self._opened.fail(_kind(error))
            raise

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._opened.close()


class BlockingTransport(httpx.BaseTransport):
    """``httpx.Client(transport=BlockingTransport(consumer))``, with a consumer of ``townhall.blocking``.

    As ``Transport``; ``try_timeout`` bounds each step of an attempt (connect, write, each read), as httpx's timeouts do.
    """

    def __init__(
        self,
        consumer: blocking.Consumer,
        *,
        inner: httpx.BaseTransport | None = None,
        **options: Unpack[TransportOptions],
    ) -> None:
        self._consumer = consumer
        self._inner = inner or httpx.HTTPTransport()
        self._options = options
        self._routes = Routes(options.get("suffix", ""), options.get("services", {}))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send to an instance, and again to others within the options. Raises httpx's TransportErrors alone."""
        service = self._routes.service(request.url.scheme, request.url.host, request.url.port)
        if service is None:
            return self._inner.handle_request(request)
        plan = _Plan(service, request, self._options)
        try_timeout_s = plan.terms.get("try_timeout")

        def attempt(instance: Instance) -> httpx.Response:
            self._drop(plan)
            try:
                return plan.judged(self._inner.handle_request(plan.at(instance, try_timeout_s=try_timeout_s)))
            except httpx.TransportError as error:
                raise _told(error) from error

        try:
            opened = self._consumer[service].open(attempt, **plan.terms)
        except _Failed as error:
            if error.response is not None:
                plan.refused = None
                return error.response
            raise plan.error(error) from error
        except (TownhallError, OSError) as error:
            raise plan.error(error) from error
        finally:
            self._drop(plan)
        response = opened.value
        response.extensions[EXTENSION] = opened.instance
        response.stream = _BlockingStream(cast("httpx.SyncByteStream", response.stream), opened)
        return response

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()

    def _drop(self, plan: _Plan) -> None:
        refused, plan.refused = plan.refused, None
        if refused is not None:
            refused.close()


class _BlockingStream(httpx.SyncByteStream):
    """The body of an answer; its end is the end of the call."""

    def __init__(self, inner: httpx.SyncByteStream, opened: Opened[httpx.Response]) -> None:
        self._inner = inner
        self._opened = opened

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._inner
        except httpx.TransportError as error:
            self._opened.fail(_kind(error))
            raise

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._opened.close()
