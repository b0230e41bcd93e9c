"""From a refused request's answer (problem+json) to the error class that its code names."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from townhall.model import errors
from townhall.model.errors import PeerMisbehaved, TownhallError

__all__ = ["ADVICE", "AWAY", "from_answer", "from_problem"]

AWAY = (errors.Unreachable, errors.Unavailable, PeerMisbehaved)
"""What a call raises while nothing answers it as a registry does."""
ADVICE = "the URL must be that of a native face, on port 7500 unless told otherwise"
"""What to do when something answers, but not as a registry."""
_EXCERPT_SIZE = 80
_OF_A_PROXY = frozenset({401, 403, 413, 429, 502, 503, 504})
"""What something in front of a registry refuses by itself. Any other refusal of a registry is a problem object."""


def _tree(root: type[TownhallError]) -> Iterator[type[TownhallError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


_BY_CODE: dict[str, type[TownhallError]] = {kind.code: kind for kind in _tree(TownhallError)}

# For an answer that names no code we know (a newer registry, a proxy in between), the status still says who must act.
_BY_STATUS: dict[int, type[TownhallError]] = {
    400: errors.Misuse,
    401: errors.Unauthenticated,
    403: errors.Denied,
    404: errors.NotFound,
    405: errors.Misuse,
    409: errors.Conflict,
    410: errors.Compacted,
    413: errors.TooLarge,
    415: errors.Misuse,
    422: errors.Misuse,
    429: errors.OverLimit,
    500: errors.TownhallError,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
    507: errors.EngineFull,
}


def from_problem(problem: object, status: int = 0) -> TownhallError:
    """The error that a decoded problem object describes; ``PeerMisbehaved`` when it is none.

    Members beyond the standard ones become ``fields``, the HTTP status among them.
    """
    if not isinstance(problem, dict):
        return PeerMisbehaved(f"the registry refused with status {status} and no problem object")
    number = problem.get("status", status)
    status = number if isinstance(number, int) else status
    kind = _BY_CODE.get(str(problem.get("code", ""))) or _BY_STATUS.get(status)
    detail = str(problem.get("detail") or problem.get("title") or f"status {status}")
    if kind is None:
        return PeerMisbehaved(f"the registry refused with an unknown code and status {status}: {detail}")
    standard = ("type", "title", "status", "code", "detail", "advice")
    fields = {name: value for name, value in problem.items() if isinstance(name, str) and name not in standard}
    # Some classes build their message from parts; here it is finished already, so only the root's part is run.
    error = kind.__new__(kind)
    TownhallError.__init__(error, detail, advice=str(problem.get("advice") or ""), **(fields | {"status": status}))
    return error


def from_answer(status: int, body: bytes, *, origin: object = "the server") -> TownhallError:
    """The error for an answer of ``origin`` with a status of 400 or more; ``PeerMisbehaved`` when it is no registry's."""
    try:
        problem = msgspec.json.decode(body)
    except msgspec.DecodeError:
        problem = None
    if isinstance(problem, dict):
        return from_problem(problem, status)
    excerpt = " ".join(body[:_EXCERPT_SIZE].decode("utf-8", "replace").split())
    said = f"{origin} answered with status {status}{': ' if excerpt else ''}{excerpt}"
    if status not in _OF_A_PROXY:
        return PeerMisbehaved(
            f"{said}, which no registry says on its native port",
            advice=ADVICE,
            status=status,
        )
    kind = _BY_STATUS[status]
    error = kind.__new__(kind)
    TownhallError.__init__(error, said, status=status)
    return error
