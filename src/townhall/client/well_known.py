"""The metadata endpoint: an instance serves the documents of its interfaces below one well-known path.

``GET /.well-known/townhall/interfaces/<revision>`` is the document, and without a revision the list of those that are
served. ``answer`` is the endpoint as a plain function, for whatever server a program has; ``asgi`` and ``wsgi`` make it
an application, around another one if there is one (RFC 8615 for the path).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple

import msgspec

from townhall.client.interfaces import Interfaces

__all__ = ["PORT_NAME", "WELL_KNOWN_PATH", "Answer", "answer", "asgi", "wsgi"]

WELL_KNOWN_PATH = "/.well-known/townhall/interfaces"
PORT_NAME = "interfaces"
"""The further port of an instance at which it serves this; an instance without it does not."""
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed"}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Answer(NamedTuple):
    """An answer to a request below ``WELL_KNOWN_PATH``; header names are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def reason(self) -> str:
        """What the status is called."""
        return _REASONS[self.status]


def answer(method: str, path: str, documents: Iterable[Interfaces]) -> Answer | None:
    """The answer to a request for ``path`` (without query); None when it is not below ``WELL_KNOWN_PATH``."""
    if not path.startswith(WELL_KNOWN_PATH):
        return None
    rest = path.removeprefix(WELL_KNOWN_PATH)
    if rest and not rest.startswith("/"):
        return None
    if method not in ("GET", "HEAD"):
        return _json(405, b'{"error":"GET or HEAD"}', method, ("allow", "GET, HEAD"))
    wanted = rest.strip("/")
    served = {one.revision: one for one in documents}
    if not wanted:
        return _json(200, msgspec.json.encode({"revisions": sorted(served)}), method)
    found = served.get(wanted)
    if found is None:
        return _json(404, b'{"error":"another revision is served here"}', method)
    # What has a hash for its name never changes.
    return _json(200, found.data, method, ("cache-control", "max-age=31536000, immutable"), ("etag", f'"{wanted}"'))


def asgi(documents: Iterable[Interfaces], app: Asgi | None = None) -> Asgi:
    """The endpoint as an ASGI application; what is not for it goes to ``app``, or is 404 without one."""
    served = tuple(documents)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        found = answer(scope["method"], scope["path"], served) if scope["type"] == "http" else None
        if found is None and app is not None:
            await app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        status, headers, body = found or _json(404, b'{"error":"not found"}', scope["method"])
        fields = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    return application


def wsgi(documents: Iterable[Interfaces], app: Wsgi | None = None) -> Wsgi:
    """The endpoint as a WSGI application (PEP 3333); what is not for it goes to ``app``, or is 404 without one."""
    served = tuple(documents)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        found = answer(method, path, served)
        if found is None and app is not None:
            return app(environ, start_response)
        found = found or _json(404, b'{"error":"not found"}', method)
        start_response(f"{found.status} {found.reason}", list(found.headers))
        return [found.body]

    return application


def _json(status: int, body: bytes, method: str, *more: tuple[str, str]) -> Answer:
    headers = (("content-type", "application/json"), ("content-length", str(len(body))), *more)
    return Answer(status, headers, b"" if method == "HEAD" else body)
