"""The operator's listener: ``/metrics``, ``/health`` and ``/routes``. Never on the port that clients use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import msgspec

from townhall.gateway.metrics import metrics
from townhall.gateway.requests import RequestHeads
from townhall.model import limits
from townhall.model.errors import Misuse
from townhall.wire.http1 import render_head
from townhall.wire.http1_reader import RequestReader

if TYPE_CHECKING:
    from townhall.gateway.gateway import Gateway

__all__ = ["Admin"]

_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_JSON = b"application/json"


class Admin(asyncio.Protocol):
    """One connection of an operator's; ``more`` are lines of metrics that only the process knows."""

    def __init__(self, gateway: Gateway, more: Callable[[], Iterable[str]]) -> None:
        self._gateway = gateway
        self._more = more
        self._reader = RequestReader(gateway.plane.options)
        self._heads = RequestHeads(target_size_max=limits.TARGET_SIZE_MAX)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._timer = self._gateway.plane.loop.call_later(limits.HEADER_TIMEOUT_MS / 1000, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """One request a connection is enough for an operator."""
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._reader.feed(data)
        try:
            raw = self._reader.head()
            if raw is None:
                return
            head = self._heads.read(raw)
        except Misuse as error:
            self._answer(400, _TEXT, f"{error.message}\n".encode())
            return
        if head.method not in (b"GET", b"HEAD"):
            self._answer(405, _TEXT, b"only GET\n")
            return
        status, kind, body = self._page(head.path)
        self._answer(status, kind, body, head_only=head.method == b"HEAD")

    def _page(self, path: bytes) -> tuple[int, bytes, bytes]:
        gateway = self._gateway
        plane = gateway.plane
        match path:
            case b"/metrics":
                lines = metrics(plane.counters, gateway.services, open_clients=len(plane.clients))
                return 200, _TEXT, "\n".join([*lines, *self._more(), ""]).encode()
            case b"/health":
                if plane.stopping:
                    return 503, _JSON, b'{"status":"stopping"}\n'
                waiting = [one.name for one in gateway.services if not one.ready]
                status = "starting" if waiting else "ok"
                return (503 if waiting else 200), _JSON, msgspec.json.encode({"status": status, "waiting": waiting})
            case b"/routes":
                return 200, _JSON, msgspec.json.encode(plane.table.routes, order="sorted")
        return 404, _TEXT, b"/metrics, /health or /routes\n"

    def _answer(self, status: int, kind: bytes, body: bytes, *, head_only: bool = False) -> None:
        assert self._transport is not None
        fields = ((b"content-type", kind), (b"content-length", b"%d" % len(body)), (b"connection", b"close"))
        self._transport.write(render_head(status, fields) + b"\r\n" + (b"" if head_only else body))
        self._transport.close()
