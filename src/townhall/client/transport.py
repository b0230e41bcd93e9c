"""Requests to the registry: which of its URLs is asked, with which token, and what a refusal means.

Several URLs are several nodes of one registry. The one that answered last is asked first; one that does not answer,
or says that it cannot serve now (503), is passed over for the next. A request that may have been acted on and is
not idempotent is not sent to a second node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from townhall.client import problems
from townhall.client.connection import Origin, parse_origin
from townhall.client.http import HttpClient, HttpStream, Request, Response
from townhall.model import limits
from townhall.model.errors import InvalidField, PeerMisbehaved, Unreachable

if TYPE_CHECKING:
    import ssl

__all__ = ["BASE", "Call", "Transport", "decode", "part", "query_of"]

BASE = "/api/v1"
PORT_DEFAULT = 7500
_BACKUP_STATUS = 503
_REFUSAL_SIZE_MAX = 1_048_576

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the native API; ``path`` comes after ``/api/v1`` and is escaped already."""

    method: str
    path: str
    query: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    budget_s: float | None = None
    """None takes the transport's."""
    repeatable: bool | None = None
    """Whether it may be sent again when nobody knows if it was acted on; None judges by the method."""
    size_max: int = limits.CLIENT_ANSWER_SIZE_MAX
    """Bytes of the answer's body."""

    @property
    def target(self) -> str:
        """Path and query as they go on the wire."""
        query = f"?{urlencode(self.query)}" if self.query else ""
        return f"{BASE}{self.path}{query}"

    @property
    def may_repeat(self) -> bool:
        """``repeatable``, or what HTTP says about the method."""
        return self.method != "POST" if self.repeatable is None else self.repeatable


class Transport:
    """Shared by all parts of a ``Registry``. Belongs to the event loop it is first used in."""

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        token: str = "",
        budget_s: float = limits.CLIENT_TIMEOUT_MS / 1000,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if urls is None:
            # What a variable of the environment that is not set becomes in os.environ.get.
            raise InvalidField("url", "None is no registry's URL", advice="for example http://127.0.0.1:7500")
        texts = [urls] if isinstance(urls, str) else list(urls)
        texts = [text.strip() for joined in texts for text in joined.split(",") if text.strip()]
        if not texts:
            raise InvalidField("url", "at least one registry URL is needed", advice="for example http://127.0.0.1:7500")
        self.origins: tuple[Origin, ...] = tuple(
            dict.fromkeys(parse_origin(text, port_default=0 if "://" in text else PORT_DEFAULT) for text in texts)
        )
        self.budget_s = budget_s
        self.http = HttpClient(ssl_context=ssl_context)
        self._token = token
        self._preferred = self.origins[0]

    @property
    def preferred(self) -> Origin:
        """The node that is asked first: the one that answered last."""
        return self._preferred

    def close(self) -> None:
        """Drop all connections; idempotent."""
        self.http.close()

    async def call(self, call: Call) -> Response:
        """The answer, whatever its status below 400. Raises the refusal's error, ``Unreachable`` or ``PeerMisbehaved``."""
        for origin, budget_s, last in self._attempts(call):
            response = await self._try(self.http.request(self._request(call, origin, budget_s)), call, last=last)
            if response is None or (response.status == _BACKUP_STATUS and not last and call.may_repeat):
                continue
            self._preferred = origin
            if response.status >= 400:
                raise problems.from_answer(response.status, response.body, origin=origin)
            return response
        raise AssertionError("the last attempt returns or raises")

    async def fetch(self, call: Call, kind: type[T]) -> T:
        """The answer's JSON as ``kind``."""
        return decode((await self.call(call)).body, kind)

    async def stream(self, call: Call, *, duplex: bool = False) -> HttpStream:
        """An answer to be read as it comes (see ``HttpClient.stream``); raises like ``call``."""
        for origin, budget_s, last in self._attempts(call):
            opening = self.http.stream(self._request(call, origin, budget_s), duplex=duplex)
            stream = await self._try(opening, call, last=last)
            if stream is None:
                continue
            if stream.status < 400:
                self._preferred = origin
                return stream
            async with stream:
                if stream.status == _BACKUP_STATUS and not last:
                    continue
                self._preferred = origin
                body = await stream.read(budget_s=budget_s, size_max=_REFUSAL_SIZE_MAX)
            raise problems.from_answer(stream.status, body, origin=origin)
        raise AssertionError("the last attempt returns or raises")

    def _request(self, call: Call, origin: Origin, budget_s: float) -> Request:
        headers = dict(call.headers)
        if self._token:
            headers["x-townhall-token"] = self._token
        if call.body and "content-type" not in headers:
            headers["content-type"] = "application/json"
        return Request(origin, call.method, call.target, headers, call.body, budget_s, call.size_max)

    def _attempts(self, call: Call) -> Iterator[tuple[Origin, float, bool]]:
        """(origin, its share of what is left of the budget in seconds, whether it is the last), preferred first."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + (self.budget_s if call.budget_s is None else call.budget_s)
        start = self.origins.index(self._preferred)
        order = self.origins[start:] + self.origins[:start]
        for index, origin in enumerate(order):
            left = len(order) - index
            yield origin, max(0.001, (deadline - clock()) / left), left == 1

    async def _try(self, attempt: Awaitable[T], call: Call, *, last: bool) -> T | None:
        try:
            return await attempt
        except Unreachable as error:
            if last and len(self.origins) > 1:
                error.message = f"none of {len(self.origins)} registries answered; the last one: {error.message}"
                error.args = (error.message,)
            if last or (error.fields.get("sent") and not call.may_repeat):
                raise
            return None


def decode(body: bytes, kind: type[T]) -> T:
    """JSON as ``kind``. Raises ``PeerMisbehaved`` when it is not that."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PeerMisbehaved(f"the answer is not what the native API gives: {error}", advice=problems.ADVICE) from error


def part(text: str | bytes, *, keep: str = "") -> str:
    """A name escaped for one part of a path; ``keep`` are characters left as they are (a key's slashes)."""
    return quote(text, safe=keep)


def query_of(**values: str | int | bool | Iterable[str] | None) -> list[tuple[str, str]]:
    """Query parameters without those that are None, empty or False; an iterable repeats its name."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if value is None or value is False or value == "":
            continue
        if value is True:
            pairs.append((name, "1"))
        elif isinstance(value, str | int):
            pairs.append((name, str(value)))
        else:
            pairs.extend((name, one) for one in value)
    return pairs
