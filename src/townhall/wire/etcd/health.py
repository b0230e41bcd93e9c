"""grpc.health.v1."""

from __future__ import annotations

import enum
from typing import Annotated

from townhall.wire.etcd import EtcdMessage

__all__ = ["HealthCheckRequest", "HealthCheckResponse", "ServingStatus"]


class ServingStatus(enum.IntEnum):
    """How a service is."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class HealthCheckRequest(EtcdMessage, frozen=True):
    """Check and Watch; "" asks about the server."""

    service: Annotated[str, 1] = ""


class HealthCheckResponse(EtcdMessage, frozen=True):
    """The answer."""

    status: Annotated[int, 1, ServingStatus] = 0
