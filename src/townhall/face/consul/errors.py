"""Errors in Consul's words: plain text, and the status that its clients branch on.

Where the real server answers 500 to a caller's own mistake we answer 400 with the same text (see
docs/conformance/consul.md); clients branch on 403, 404, 409 and 429 only.
"""

from __future__ import annotations

from collections.abc import Sequence

from townhall.face import Headers, Reply
from townhall.model.errors import (
    AlreadyExists,
    Conflict,
    Denied,
    Fenced,
    Misuse,
    NotFound,
    OverLimit,
    TooLarge,
    TownhallError,
    Unauthenticated,
    Unavailable,
)

__all__ = ["PLAIN_TEXT", "bad", "method_not_allowed", "no_such_path", "reply", "text"]

PLAIN_TEXT = b"text/plain; charset=utf-8"
POLICY_ALLOW = (b"X-Consul-Default-ACL-Policy", b"allow")
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
_STATUS: Sequence[tuple[type[TownhallError], int]] = (
    (Unauthenticated, 403), (Denied, 403), (NotFound, 404), (AlreadyExists, 409), (Conflict, 409), (Fenced, 409),
    (OverLimit, 429), (TooLarge, 413), (Misuse, 400), (Unavailable, 503),
)  # fmt: skip


def bad(message: str, status: int = 400) -> Misuse:
    """A refusal with exactly this text as its body. Raise it."""
    return Misuse(message, http_status=status)


def text(status: int, message: str, headers: Headers = ()) -> Reply:
    """An answer in plain text."""
    return Reply(status, message.encode("utf-8", "backslashreplace"), (POLICY_ALLOW, *headers), PLAIN_TEXT)


def reply(error: TownhallError) -> Reply:
    """Any error of ours as Consul would put it."""
    status = error.fields.get("http_status")
    if not isinstance(status, int):
        status = next((number for kind, number in _STATUS if isinstance(error, kind)), 500)
    message = error.message
    if isinstance(error, Unauthenticated) and "right" not in error.fields:
        message = "ACL not found"  # The token is unknown; without any, a right is missing.
    elif isinstance(error, Denied | Unauthenticated):
        message = f"Permission denied: {error.message}"
    return text(status, message)


def method_not_allowed(method: str, allowed: Sequence[str]) -> Reply:
    """405, or the answer to OPTIONS: ``Allow`` lists OPTIONS first."""
    names = ",".join(("OPTIONS", *(name for name in _METHODS if name in allowed)))
    header = ((b"Allow", names.encode("ascii")),)
    if method == "OPTIONS":
        return Reply(200, b"", (POLICY_ALLOW, *header))
    return text(405, f"method {method[:32]} not allowed", header)


def no_such_path(path: str) -> Reply:
    """What the mux of an agent says to paths that it does not know."""
    if "//" in path:
        while "//" in path:
            path = path.replace("//", "/")
        if path.isascii() and path.isprintable():
            return Reply(307, b"", ((b"Location", path.encode("ascii")),))
    if path.startswith("/v1/"):
        return Reply(404, b"Invalid URL path: not a recognized HTTP API endpoint\n", (), PLAIN_TEXT)
    message = b"Invalid URL path: if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"
    return Reply(404, message, (), PLAIN_TEXT)
