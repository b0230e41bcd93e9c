"""From a head to a plan: which method is called, by whom, and how its messages are written.

A plan depends on nothing but the head and the face's table, so it is kept on the head, which is remembered by its bytes
(``wire.http2.heads``). What a head alone can be refused for is an answer in the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from townhall.face.grpc import Call, Code, GrpcFace, Kind, Method
from townhall.model.limits import GRPC_MESSAGE_SIZE_MAX
from townhall.wire.grpc import refusal_block
from townhall.wire.http2.frames import Block, block

if TYPE_CHECKING:
    from townhall.core.queries import Reader
    from townhall.face import Verb
    from townhall.wire.http2 import Http2Limits
    from townhall.wire.http2.heads import Head

__all__ = ["CallPlan", "CallPlans", "HttpAnswer"]

_RESERVED: Final = frozenset({b"te", b"content-type", b"content-length", b"grpc-encoding", b"grpc-accept-encoding"})
"""Fields that are gRPC's own and no metadata."""
_ENCODINGS: Final = b"identity,gzip"
_NOT_GRPC: Final = b"this port speaks gRPC over HTTP/2; for HTTP and JSON use HTTP/1.1\n"


class HttpAnswer:
    """A plain HTTP answer to what is no gRPC call."""

    __slots__ = ("body", "head")

    def __init__(self, status: int, body: bytes) -> None:
        fields = [
            (b":status", b"%d" % status),
            (b"content-type", b"text/plain"),
            (b"content-length", b"%d" % len(body)),
        ]
        self.head = block(fields, ends=False)
        self.body = body


class CallPlan:
    """One head, understood."""

    __slots__ = ("fixed", "gzip", "handler", "http", "kind", "metadata", "path", "secret", "size_max", "usual")

    def __init__(self) -> None:
        self.path = ""
        self.metadata: dict[str, str] = {}
        self.secret = ""
        self.kind = Kind.UNARY
        self.handler: Callable[[Call, Reader], Verb] = _nothing
        self.size_max = GRPC_MESSAGE_SIZE_MAX
        """Of one request message."""
        self.gzip = False
        """Messages may come compressed, and answers are."""
        self.fixed: Block | None = None
        """The answer, when no handler is needed: no such method."""
        self.http: HttpAnswer | None = None
        """The answer to what is no gRPC."""
        self.usual = False
        """A handler is called when one message has come."""


class CallPlans:
    """Makes plans for one face."""

    def __init__(self, face: GrpcFace, limits: Http2Limits) -> None:
        self._face = face
        self._limits = limits
        self._methods: dict[str, Method] = {}
        for method in face.methods:
            if method.path in self._methods or method.path.count("/") != 2 or method.path[:1] != "/":
                raise ValueError(f"{method.path!r} is no method's path, or stands in the table twice")
            self._methods[method.path] = method
        self._services = {path.rpartition("/")[0] for path in self._methods}

    def plan(self, head: Head) -> CallPlan:
        """What this head asks for."""
        plan = CallPlan()
        fields: dict[bytes, bytes] = {}
        for name, value in head.fields:
            fields[name] = fields[name] + b"," + value if name in fields else value
        plan.http = self._http_answer(head, fields)
        if plan.http is not None:
            return plan
        plan.path = head.path.decode("latin-1")
        plan.metadata = {
            name.decode("ascii"): value.decode("latin-1") for name, value in fields.items() if name not in _RESERVED
        }
        encoding = fields.get(b"grpc-encoding", b"identity")
        method = self._methods.get(plan.path)
        if method is None:
            plan.fixed = refusal_block(Code.UNIMPLEMENTED, self._unknown(plan.path))
        elif encoding not in (b"identity", b"gzip"):
            text = f'grpc: Decompressor is not installed for grpc-encoding "{encoding.decode("latin-1")}"'
            plan.fixed = refusal_block(Code.UNIMPLEMENTED, text, ((b"grpc-accept-encoding", _ENCODINGS),))
        else:
            plan.kind, plan.handler = method.kind, method.handler
            plan.size_max = method.message_size_max or GRPC_MESSAGE_SIZE_MAX
            plan.usual = plan.kind != Kind.DUPLEX
            plan.gzip = encoding == b"gzip"
            plan.secret = self._face.credentials(plan.metadata)
        return plan

    def _http_answer(self, head: Head, fields: dict[bytes, bytes]) -> HttpAnswer | None:
        if head.size > self._limits.header_size_max or len(head.fields) > self._limits.header_count_max:
            return HttpAnswer(431, b"the header is too large\n")
        kind = fields.get(b"content-type", b"")
        # PROTOCOL-HTTP2.md: "application/grpc" [("+proto" / "+json" / …)]; parameters are allowed as everywhere.
        if not kind.startswith(b"application/grpc") or kind[16:17] not in (b"", b"+", b";"):
            return HttpAnswer(415, _NOT_GRPC)
        if head.method != b"POST":
            return HttpAnswer(405, b"a gRPC call is a POST\n")
        return None

    def _unknown(self, path: str) -> str:
        # The words of grpc-go.
        service, _, method = path[1:].rpartition("/")
        if f"/{service}" in self._services:
            return f"unknown method {method} for service {service}"
        return f"unknown service {service}" if service else f'malformed method name: "{path}"'


def _nothing(call: Call, reader: Reader) -> Verb:
    raise AssertionError("a plan without method has a fixed answer")
