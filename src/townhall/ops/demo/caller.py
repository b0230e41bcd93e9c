"""The load: callers side by side, at a bounded rate; most call with the SDK, one by plain HTTP through the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from townhall.client.connection import Origin
from townhall.client.handle import ServiceHandle
from townhall.client.http import HttpClient, Request
from townhall.client.records import Instance
from townhall.model.errors import PeerMisbehaved, TownhallError
from townhall.ops.demo.board import Board

__all__ = ["CALLERS_COUNT", "Callers"]

CALLERS_COUNT: Final = 8
_PAUSE_S: Final = 0.02
"""Between two calls of one caller: 8 callers make some 350 calls a second."""
_TRY_S: Final = 0.4
"""For one attempt; a provider needs 3 ms, so one that takes this long hangs."""
_CALL_S: Final = 4.0
_RETRIES: Final = 4
_FAILURES_TOLD: Final = 5


class Callers:
    """Calls a service without pause and writes the score on the board."""

    def __init__(self, handle: ServiceHandle, gateway: Origin, board: Board) -> None:
        self._handle = handle
        self._gateway = gateway
        self._board = board
        self._http = HttpClient()
        self._stopping = False

    async def run(self) -> None:
        """Until ``stop``; calls that run then are finished."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(CALLERS_COUNT):
                    group.create_task(self._call_on(self._call_once))
                group.create_task(self._call_on(self._call_gateway))
        finally:
            self._http.close()

    def stop(self) -> None:
        """Begin no further calls."""
        self._stopping = True

    async def _call_on(self, call: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping:
            await call()
            await asyncio.sleep(_PAUSE_S)

    async def _call_once(self) -> None:
        board = self._board
        attempts = 0

        async def attempt(instance: Instance) -> str:
            nonlocal attempts
            attempts += 1
            request = Request(Origin("http", instance.address, instance.port), "GET", "/", budget_s=_TRY_S)
            response = await self._http.request(request)
            if response.status != 200:
                raise PeerMisbehaved(f"{instance.id} answered {response.status}")
            return response.body.decode().strip()

        try:
            name = await self._handle.call(attempt, retries=_RETRIES, timeout=_CALL_S, try_timeout=_TRY_S, wait=_CALL_S)
        except (TownhallError, OSError) as error:
            board.failed += 1
            self._note(f"{type(error).__name__}: {error}")
        else:
            board.answers[name] += 1
            board.failed_over += attempts - 1
        board.calls += 1

    async def _call_gateway(self) -> None:
        """One request, no failover of ours: what goes wrong behind the gateway is the gateway's to make good."""
        board = self._board
        try:
            response = await self._http.request(Request(self._gateway, "GET", "/", budget_s=2 * _CALL_S))
        except (TownhallError, OSError) as error:
            board.gateway_failed += 1
            self._note(f"through the gateway: {type(error).__name__}: {error}")
        else:
            if response.status != 200:
                board.gateway_failed += 1
                self._note(f"through the gateway: {response.status} {response.text.strip()[:200]}")
        board.gateway_calls += 1

    def _note(self, what: str) -> None:
        if len(self._board.failures) < _FAILURES_TOLD:
            self._board.failures.append(f"at {self._board.elapsed:.1f} s: {what}")
