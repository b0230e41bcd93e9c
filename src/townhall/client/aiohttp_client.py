"""aiohttp over Townhall: a client middleware that chooses an instance for each request, and a resolver.

The middleware addresses the request to an instance and lets aiohttp send it, which keeps connections by address; so each
request is balanced, also over kept connections. The resolver only tells aiohttp where to connect: requests stay on the
connections that were made, and what becomes of them is not seen. It is for sessions that can have no middleware.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Unpack, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from townhall.client.attempts import NOT_ACTED_ON, OVERLOADED
from townhall.client.handle import CallOptions
from townhall.client.http import IDEMPOTENT
from townhall.client.opened import Opened
from townhall.client.records import Instance
from townhall.client.routes import Routes
from townhall.model.errors import TownhallError, Unreachable
from townhall.model.instance import ServiceKey

if TYPE_CHECKING:
    from townhall.client.consumer import Consumer

__all__ = ["Balanced", "Resolver", "SessionOptions"]

Handler = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class SessionOptions(CallOptions, total=False):
    """``CallOptions`` for every request, and which hosts are services. ``hedge`` is not obeyed: answers are streams."""

    suffix: str
    """See ``routes``; aiohttp itself refuses the scheme ``townhall://``."""
    services: Mapping[str, str | ServiceKey]
    """Host → service, for names that no host can spell."""


class _Failed(Unreachable):
    """An attempt that is the instance's fault; the cause is what aiohttp has to say of it."""

    def __init__(self, *, kind: str, sent: bool, response: aiohttp.ClientResponse | None = None) -> None:
        super().__init__("the instance failed", kind=kind, sent=sent)
        self.response = response


class Balanced:
    """``aiohttp.ClientSession(middlewares=[Balanced(consumer)])``: hosts that are services are found by the consumer.

    Everything else passes. Raises aiohttp's errors: ``ClientConnectionError`` when no instance may be called.
    """

    def __init__(self, consumer: Consumer, **options: Unpack[SessionOptions]) -> None:
        self._consumer = consumer
        self._options = options
        self._routes = Routes(options.get("suffix", ""), options.get("services", {}))

    async def __call__(self, request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        """One request, to an instance and again to others within the options."""
        url = request.url
        service = self._routes.service(url.scheme, url.host or "", url.explicit_port)
        if service is None:
            return await handler(request)
        sending = _Sending(request, handler)
        try:
            opened = await self._consumer[service].open(sending.attempt, **self._terms(request))
        except _Failed as error:
            if error.response is not None:
                sending.refused.clear()
                return error.response
            raise cast("Exception", error.__cause__) from error
        except TimeoutError as error:
            raise aiohttp.ServerTimeoutError(f"{service} did not answer in time") from error
        except TownhallError as error:
            raise aiohttp.ClientConnectionError(str(error)) from error
        finally:
            request.url = url
            sending.drop()
        _close_with(opened)
        return opened.value

    def _terms(self, request: aiohttp.ClientRequest) -> CallOptions:
        names = CallOptions.__optional_keys__ - {"hedge"}
        terms = cast("CallOptions", {name: value for name, value in self._options.items() if name in names})
        # A body that comes from a generator or a file exists once; one that was not sent is still whole.
        repeatable = not request.body or isinstance(request.body, aiohttp.BytesPayload)
        terms["idempotent"] = bool(terms.get("idempotent", request.method in IDEMPOTENT)) and repeatable
        return terms


class _Sending:
    """One request, on its way to whichever instance."""

    def __init__(self, request: aiohttp.ClientRequest, handler: Handler) -> None:
        self._request = request
        self._handler = handler
        self._url = request.url
        self.refused: list[aiohttp.ClientResponse] = []
        """An answer that said: not now. The next attempt's takes its place."""

    async def attempt(self, instance: Instance) -> aiohttp.ClientResponse:
        self.drop()
        request, url = self._request, self._url
        request.url = url.with_host(instance.address).with_port(instance.port or None)
        if url.scheme == "https" and not request.server_hostname:
            request.server_hostname = url.host
        try:
            response = await self._handler(request)
        except aiohttp.InvalidURL:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise _Failed(kind=_kind(error), sent=not isinstance(error, _NOT_SENT)) from error
        if response.status in OVERLOADED:
            self.refused.append(response)
            raise _Failed(kind="5xx", sent=NOT_ACTED_ON not in response.headers, response=response)
        return response

    def drop(self) -> None:
        while self.refused:
            self.refused.pop().close()


def _kind(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timeout"
    return "connect" if isinstance(error, _NOT_SENT) else "reset"


def _close_with(opened: Opened[aiohttp.ClientResponse]) -> None:
    """The call is over when the answer gives its connection back; a short answer has done so already."""
    connection = opened.value.connection
    if connection is None:
        opened.close()
    else:
        connection.add_callback(opened.close)


class Resolver(AbstractResolver):
    """``aiohttp.TCPConnector(resolver=Resolver(consumer), ttl_dns_cache=None, use_dns_cache=False)``.

    Answers with the instance that the balancer picks, then the other callable ones: aiohttp tries them in this order
    when one does not accept. Whatever is no service is resolved by ``fallback``.
    """

    def __init__(
        self, consumer: Consumer, *, fallback: AbstractResolver | None = None, routes: Routes | None = None
    ) -> None:
        self._consumer = consumer
        self._fallback = fallback or aiohttp.ThreadedResolver()
        self._routes = routes or Routes()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError when no instance may be called, as resolvers do."""
        service = self._routes.service("http", host, None)
        if service is None:
            return await self._fallback.resolve(host, port, family)
        handle = self._consumer[service]
        try:
            await handle.start()
            first = handle.pick()
        except TownhallError as error:
            raise OSError(None, str(error)) from error
        others = [one for one in handle.instances(callable_only=True) if one.id != first.id]
        found: list[ResolveResult] = []
        for one in (first, *others):
            if _is_address(one.address):
                found.append(_result(host, one.address, one.port or port))
            else:
                found += await self._fallback.resolve(one.address, one.port or port, family)
        return found

    async def close(self) -> None:
        """Close the fallback; the consumer stays the caller's."""
        await self._fallback.close()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags: Any = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=flags)
