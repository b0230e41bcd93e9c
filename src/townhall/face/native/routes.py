"""The native face: the whole table of operations, credentials, and errors in the protocol's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from townhall.face import Reply, Request, Route
from townhall.face.native import access, keys, leases, problems
from townhall.face.native.catalogue import Catalogue
from townhall.face.native.instances import Instances
from townhall.face.native.locks import Locks
from townhall.face.native.openapi import document
from townhall.face.native.operations import Operation
from townhall.face.native.page import page
from townhall.face.native.registration import Registrations
from townhall.face.native.registry import Registry
from townhall.face.native.rendering import Rendering, encode
from townhall.face.native.session import Sessions
from townhall.face.native.watching import Watching
from townhall.model.errors import NotFound, TownhallError

__all__ = ["NativeFace"]

_BEARER = "bearer "


class NativeFace:
    """Townhall's own protocol; implements ``face.Face``. One for each registry: it holds what is rendered for it."""

    name = "native"

    def __init__(self, version: str = "", *, extra: Sequence[Operation] = (), secure: bool = False) -> None:
        """``version`` is shown; ``extra`` are operations that only the program around the registry can offer;
        ``secure`` says that it is served over TLS, which the examples on the first page need to know.
        """
        rendering = Rendering()
        self.operations: list[Operation] = [
            *Catalogue(rendering).operations(),
            *Registrations(rendering).operations(),
            *Instances(rendering).operations(),
            *leases.operations(),
            *Sessions().operations(),
            *Watching(rendering).operations(),
            *keys.operations(),
            *Locks().operations(),
            *access.operations(),
            *Registry(version, self._document, self._page, secure=secure).operations(),
            *extra,
        ]
        self.version = version
        self.routes: Sequence[Route] = [operation.route() for operation in self.operations]
        self._described: dict[str, bytes] = {}

    def credentials(self, headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> str:
        """``X-Townhall-Token``, or a bearer token (RFC 6750 §2.1). Never the query: addresses are logged."""
        secret = headers.get("x-townhall-token")
        if secret is not None:
            return secret
        authorization = headers.get("authorization", "")
        return authorization[len(_BEARER) :].strip() if authorization[: len(_BEARER)].lower() == _BEARER else ""

    def error(self, error: TownhallError, request: Request | None) -> Reply:
        """A problem object."""
        return problems.reply(error)

    def no_route(self, method: str, path: str, allowed: Sequence[str]) -> Reply:
        """404, or 405 with what is allowed."""
        if not allowed:
            return problems.reply(NotFound(f"there is nothing at {path[:256]!r}", advice="see /docs for what there is"))
        shown = ", ".join(allowed)
        refusal = TownhallError(f"{path[:256]!r} does not take {method[:32]}", advice=f"it takes {shown}")
        return problems.method_not_allowed(refusal, shown)

    def _document(self) -> bytes:
        return self._once("document", lambda: encode(document(self.operations, self.version)))

    def _page(self) -> bytes:
        return self._once("page", lambda: page(document(self.operations, self.version)).encode())

    def _once(self, name: str, make: Callable[[], bytes]) -> bytes:
        if name not in self._described:
            self._described[name] = make()
        return self._described[name]
