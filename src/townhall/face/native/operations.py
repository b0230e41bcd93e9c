"""One row of the native API's table: how a request is routed, what it may hold, and how the document describes it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from townhall.core.queries import Reader
from townhall.face import Handler, Request, Route, Verb
from townhall.face.native.requests import GROUP, NAMESPACE, Parameter, check_known
from townhall.face.native.shapes import EmptyBody
from townhall.model import limits
from townhall.wire.strict_json import Strict

__all__ = ["BASE", "SCOPE", "Operation", "capture_names", "no_body"]

BASE = "/api/v1"
SCOPE: tuple[Parameter, ...] = (NAMESPACE, GROUP)
"""The parameters of every path that names a service."""

_EMPTY: Strict[EmptyBody] = Strict(EmptyBody)


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A method on a path."""

    method: str
    path: str
    """Below ``/api/v1`` unless ``absolute``."""
    handler: Handler
    summary: str
    tag: str
    parameters: tuple[Parameter, ...] = ()
    body: type | None = None
    """The Struct that the handler decodes; None when it takes no body."""
    raw_body: str = ""
    """Content type of a body that is not JSON."""
    body_size_max: int = 1_048_576
    answers: Mapping[int, type | str | None]
    """Status to Struct, to content type, or to None when the answer has no body."""
    refusals: tuple[int, ...] = ()
    """Statuses of problems beyond those that every operation may answer."""
    absolute: bool = False
    duplex: bool = False
    description: str = ""

    @property
    def pattern(self) -> str:
        """The whole path."""
        return self.path if self.absolute else BASE + self.path

    def route(self) -> Route:
        """The row for the router: the handler behind the checks that its table entry calls for."""
        handler = self.handler
        known = frozenset(parameter.name for parameter in self.parameters)
        bare = self.body is None and not self.raw_body and not self.duplex

        def handle(request: Request, reader: Reader) -> Verb:
            if request.query:
                check_known(request.query, known)
            if bare and request.body:
                no_body(request)
            return handler(request, reader)

        return Route(self.method, self.pattern, handle, min(self.body_size_max, limits.BODY_SIZE_MAX), self.duplex)


def no_body(request: Request) -> None:
    """Accept an empty JSON object where nothing is expected, and refuse all else. Raises what ``Strict`` raises."""
    _EMPTY.decode(request.body)


def capture_names(pattern: str) -> list[str]:
    """Names of what a pattern captures, in order."""
    return [part[1:-1].removesuffix("...") for part in pattern.split("/") if part.startswith("{")]
