"""Errors as ``application/problem+json`` (RFC 9457): one table from the tree in ``model.errors`` to status and title."""

from __future__ import annotations

import msgspec

from townhall.face import Headers, Reply
from townhall.model import errors
from townhall.model.errors import TownhallError

__all__ = ["CONTENT_TYPE", "TABLE", "Problem", "method_not_allowed", "problem", "reply", "status_of"]

CONTENT_TYPE = b"application/problem+json"

TABLE: dict[type[TownhallError], tuple[int, str]] = {
    TownhallError: (500, "Something went wrong here"),
    errors.Misuse: (400, "The request cannot be done as it is"),
    errors.InvalidField: (400, "A value is not allowed"),
    errors.UnknownField: (400, "A field is not known"),
    errors.Malformed: (400, "The message cannot be read"),
    errors.TooLarge: (413, "Too large"),
    errors.Refused: (409, "The state of the registry does not allow it"),
    errors.NotFound: (404, "Not found"),
    errors.AlreadyExists: (409, "It exists already"),
    errors.Conflict: (409, "A comparison failed, or it is in use"),
    errors.Fenced: (409, "Somebody newer owns this"),
    errors.LeaseNotFound: (404, "The lease has ended"),
    errors.Compacted: (410, "The history asked for is gone"),
    errors.OverLimit: (429, "A limit is reached"),
    errors.Unauthenticated: (401, "A valid token is needed"),
    errors.Denied: (403, "The token does not allow it"),
    errors.Unavailable: (503, "Not available now"),
    errors.EngineFull: (507, "The disk is full"),
    errors.EngineFailed: (503, "The journal cannot be used"),
    errors.OutcomeUnknown: (503, "It is not known whether the write was made"),
    errors.Stopping: (503, "The registry is shutting down"),
    errors.Damaged: (500, "Stored data is damaged"),
    # The SDK's own errors never come from a handler; they are here so that the table is complete.
    errors.Unreachable: (500, "No registry answered"),
    errors.NoInstance: (500, "No instance may be called"),
    errors.PeerMisbehaved: (500, "The answer is not one of a Townhall"),
}

_ADVICE: dict[type[TownhallError], str] = {
    errors.LeaseNotFound: "register again",
    errors.Compacted: "list again and go on from the list's revision",
    errors.Fenced: "a newer process registered the same id: do not act for it any more",
    errors.Unauthenticated: "send a token as X-Townhall-Token or as Authorization: Bearer",
    errors.OverLimit: "try again later or ask an operator to raise the limit",
    errors.Unavailable: "try again after a pause",
    errors.EngineFull: "free space on the registry's disk; reads go on meanwhile",
    errors.OutcomeUnknown: "read before you try again",
}
_CHALLENGE = b'Bearer realm="townhall"'
_RETRY_AFTER = (b"retry-after", b"1")


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What every error answer holds. ``code`` is stable and meant for programs.

    Further members are typed details of the error: a limit, the oldest position still held, who holds a lock.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    """What was wrong."""
    advice: str = ""
    """What to do about it."""
    field: str = ""
    """The field or parameter that is wrong."""


_encode = msgspec.json.Encoder().encode


def status_of(error: TownhallError) -> int:
    """The HTTP status of an error: that of its row, unless HTTP has one of its own for it (``http_status``)."""
    status = error.fields.get("http_status")
    return status if isinstance(status, int) else _row(error)[0]


def problem(error: TownhallError) -> dict[str, object]:
    """An error as the members of its problem object."""
    status, title = status_of(error), _row(error)[1]
    shown: dict[str, object] = {
        "type": f"urn:townhall:error:{error.code}",
        "title": title,
        "status": status,
        "code": error.code,
        "detail": _clean(error.message),
    }
    advice = error.advice or _advice(error)
    if advice:
        shown["advice"] = _clean(advice)
    for name, value in error.fields.items():
        if name != "http_status":
            shown.setdefault(name, _plain(value))
    return shown


def reply(error: TownhallError, headers: Headers = ()) -> Reply:
    """An error as an answer, with the headers that its status calls for."""
    status = status_of(error)
    if status == 401:  # RFC 9110 §11.6.1: a 401 must carry a challenge.
        headers = (*headers, (b"www-authenticate", _CHALLENGE))
    elif status in (429, 503):
        headers = (*headers, _RETRY_AFTER)
    return Reply(status, _encode(problem(error)), headers, CONTENT_TYPE)


def _row(error: TownhallError) -> tuple[int, str]:
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


def _advice(error: TownhallError) -> str:
    return next((_ADVICE[kind] for kind in type(error).__mro__ if kind in _ADVICE), "")


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {_clean(str(name)): _plain(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(content) for content in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return _clean(str(value))


def _clean(text: str) -> str:
    # A message may quote what the client sent, and a lone surrogate cannot be encoded.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def method_not_allowed(error: TownhallError, allowed: str) -> Reply:
    """405 with Allow (RFC 9110 §15.5.6), in the form of all problems."""
    shown = problem(error) | {"status": 405, "title": "The method is not allowed", "code": "method_not_allowed"}
    shown["type"] = "urn:townhall:error:method_not_allowed"
    return Reply(405, _encode(shown), ((b"allow", allowed.encode("latin-1", "replace")),), CONTENT_TYPE)
