"""The health service of gRPC (grpc/grpc, doc/health-checking.md): who is answered is healthy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from townhall.core.queries import Reader
from townhall.face import Pulled, Stream, Verb
from townhall.face.etcd.answers import bare, refusal
from townhall.face.grpc import Call, Code, Kind, Method, framed
from townhall.wire.etcd.health import HealthCheckRequest, HealthCheckResponse, ServingStatus
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import encode

__all__ = ["methods"]

_UNKNOWN: Final = refusal(Code.NOT_FOUND, "unknown service")
_SERVED: Final = ""
"""Only the server as a whole is known, as in etcd."""


def methods() -> Sequence[Method]:
    """The rows of the face's table."""
    return [
        Method("/grpc.health.v1.Health/Check", check),
        Method("/grpc.health.v1.Health/Watch", watch, Kind.SERVER_STREAM),
    ]


def check(call: Call, reader: Reader) -> Verb:
    """How it is now."""
    if decode(HealthCheckRequest, call.message).service != _SERVED:
        return _UNKNOWN
    return bare(HealthCheckResponse(status=ServingStatus.SERVING))


def watch(call: Call, reader: Reader) -> Verb:
    """How it is now and whenever that changes; a service that is not known is waited for."""
    known = decode(HealthCheckRequest, call.message).service == _SERVED
    status = ServingStatus.SERVING if known else ServingStatus.SERVICE_UNKNOWN
    pending = [framed(encode(HealthCheckResponse(status=status)))]

    def pull(reader: Reader) -> Pulled | None:
        return Pulled(pending.pop()) if pending else None

    return Stream((), pull, content_type=b"application/grpc")
