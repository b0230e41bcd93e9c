"""What is noted of one request, for the access log and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from townhall.client.records import Instance
from townhall.gateway.requests import RequestHead

if TYPE_CHECKING:
    from townhall.gateway.services import Service

__all__ = ["Trace"]


class Trace:
    """Filled while the request runs."""

    __slots__ = (
        "address", "admitted", "attempts", "begun", "code", "failures", "head", "instance", "received", "route", "sent", "service", "status", "trailers",
    )  # fmt: skip

    def __init__(self, head: RequestHead | None, address: str, begun: float) -> None:
        self.head = head
        self.address = address
        """The client's, after trusted proxies."""
        self.begun = begun
        """On the loop's clock."""
        self.route = ""
        self.service = ""
        self.instance: Instance | None = None
        """The last one that was tried."""
        self.admitted: Service | None = None
        """The service that counts this among its running requests."""
        self.attempts = 0
        self.failures: list[str] = []
        """What ended attempts: connect, timeout, reset."""
        self.status = 0
        """Of the answer; 499 when the client went away before there was one."""
        self.code = ""
        """Of our own answer."""
        self.received = 0
        """Bytes of the request's body."""
        self.sent = 0
        """Bytes of the answer's body."""
        self.trailers = b""
        """Of a chunked request."""
