"""The JSON gateway: the methods of the gRPC face as an ordinary HTTP face, on the same port.

There is one implementation. A handler makes the method's message of the JSON body, calls the method, and whatever verb
comes back is given on with JSON in the place of messages. So the gateway can do what gRPC can, and nothing differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from townhall.core import Outcome
from townhall.core.queries import Reader
from townhall.face import Duplex, Park, Reply, Request, Route, Stream, Submit, Verb
from townhall.face.etcd.gateway_json import STATUSES, Rendering, error_body
from townhall.face.etcd.gateway_streams import duplex, stream
from townhall.face.etcd.gateway_table import PREFIXES, ROWS, Row
from townhall.face.etcd.guarded import secret_of
from townhall.face.etcd.pages import Pages
from townhall.face.grpc import Call, Code, GrpcFace, Kind, Method
from townhall.model.errors import Malformed, TownhallError
from townhall.model.limits import GATEWAY_BODY_SIZE_MAX

__all__ = ["Gateway"]

_NOT_FOUND: Final = Reply(404, error_body(Code.NOT_FOUND, "Not Found"))
_NOT_ALLOWED: Final = Reply(501, error_body(Code.UNIMPLEMENTED, "Method Not Allowed"))
_PAGE_NOT_FOUND: Final = Reply(404, b"404 page not found\n", content_type=b"text/plain; charset=utf-8")


class Gateway:
    """An HTTP face over a gRPC face; see ``face.Face``."""

    name = "etcd"

    def __init__(self, grpc: GrpcFace, pages: Pages) -> None:
        """``grpc`` has the methods; ``pages`` are what is not JSON of its services."""
        self._grpc = grpc
        self._rendering = Rendering()
        methods = {method.path: method for method in grpc.methods}
        rows = [row for row in ROWS if row.method in methods]
        self.routes: Sequence[Route] = (
            *(self._route(prefix, row, methods[row.method]) for prefix in PREFIXES for row in rows),
            *pages.routes,
        )

    def _route(self, prefix: str, row: Row, method: Method) -> Route:
        many = method.kind is Kind.DUPLEX
        handler = self._stream_handler(row, method) if many else self._handler(row, method)
        return Route("POST", prefix + row.path, handler, GATEWAY_BODY_SIZE_MAX, duplex=many)

    # --- contract Face

    def credentials(self, headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> str:
        """The token, bare in ``Authorization``."""
        return secret_of(headers)

    def error(self, error: TownhallError, request: Request | None) -> Reply:
        """As the method would tell it, in JSON."""
        told = self._grpc.error(error, None)
        return _refusal(told)

    def no_route(self, method: str, path: str, allowed: Sequence[str]) -> Reply:
        """In JSON below the gateway's prefixes, in words elsewhere."""
        if not path.startswith(tuple(prefix + "/" for prefix in PREFIXES)):
            return _PAGE_NOT_FOUND
        return _NOT_ALLOWED if allowed else _NOT_FOUND

    # --- one skin over the other

    def _handler(self, row: Row, method: Method) -> Callable[[Request, Reader], Verb]:
        call_method, rendering = method.handler, self._rendering

        def handle(request: Request, reader: Reader) -> Verb:
            try:
                message = rendering.request(row.request, request.body)
            except Malformed as error:
                return _malformed(error)
            return self._verb(row, call_method(_call(request, row.method, message), reader))

        return handle

    def _stream_handler(self, row: Row, method: Method) -> Callable[[Request, Reader], Verb]:
        def handle(request: Request, reader: Reader) -> Verb:
            return self._verb(row, method.handler(_call(request, row.method, b""), reader))

        return handle

    def _verb(self, row: Row, verb: Verb) -> Verb:
        rendering = self._rendering
        if isinstance(verb, Reply):
            if verb.status:
                return _refusal(verb)
            return Reply(200, rendering.answer(row.response, verb.body))
        if isinstance(verb, Submit):
            render = verb.render

            def rendered(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Verb:
                return self._verb(row, render(reader, results))

            return Submit(verb.commands, rendered, verb.abandoned)
        if isinstance(verb, Park):
            return self._park(row, verb)
        if isinstance(verb, Stream):
            return stream(verb, lambda data: rendering.answer(row.response, data))
        assert isinstance(verb, Duplex)
        return duplex(
            verb,
            lambda body: rendering.request(row.request, body),
            lambda data: rendering.answer(row.response, data),
            lambda error: error_body(Code.INVALID_ARGUMENT, error.message),
        )

    def _park(self, row: Row, park: Park) -> Park:
        def attempt(reader: Reader, expired: bool) -> Reply | Submit | None:
            verb = park.attempt(reader, expired)
            return None if verb is None else cast("Reply | Submit", self._verb(row, verb))

        return Park(park.interests, attempt, park.wait_ms, park.abandoned)


def _call(request: Request, path: str, message: bytes) -> Call:
    secret = request.headers.get("authorization")
    metadata = {} if secret is None else {"authorization": secret}
    return Call(path, metadata, message, request.peer, request.actor, request.live)


def _refusal(told: Reply) -> Reply:
    code = Code(told.status)
    return Reply(STATUSES[code], error_body(code, told.body.decode("utf-8", "replace")))


def _malformed(error: Malformed) -> Reply:
    return Reply(400, error_body(Code.INVALID_ARGUMENT, error.message))
