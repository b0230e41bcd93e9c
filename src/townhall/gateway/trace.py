"""What is noted of one request, for the access log and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from townhall.client.records import Instance
from townhall.gateway.requests import RequestHead

if TYPE_CHECKING:
    from townhall.gateway.services import Service

__all__ = ["Trace"]


class Trace(msgspec.Struct, gc=False):
    """Filled while the request runs."""

    head: RequestHead | None
    address: str
    """The client's, after trusted proxies."""
    begun: float
    """On the loop's clock."""
    route: str = ""
    service: str = ""
    instance: Instance | None = None
    """The last one that was tried."""
    admitted: Service | None = None
    """The service that counts this among its running requests."""
    attempts: int = 0
    failures: list[str] = []
    """What ended attempts: connect, timeout, reset."""
    status: int = 0
    """Of the answer; 499 when the client went away before there was one."""
    code: str = ""
    """Of our own answer."""
    received: int = 0
    """Bytes of the request's body."""
    sent: int = 0
    """Bytes of the answer's body."""
    trailers: bytes = b""
    """Of a chunked request."""
