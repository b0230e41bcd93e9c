"""What the hub's tests share: a running hub, and its answers to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from townhall.core import Command, Outcome
from townhall.core.commands import Register, Transact
from townhall.engine import Engine
from townhall.engine.memory import MemoryEngine
from townhall.hub.clock import SimulatedClock
from townhall.hub.hub import INTERNAL, Hub, HubOptions
from townhall.hub.ids import SeededIds
from townhall.model.errors import TownhallError
from townhall.model.instance import ServiceKey
from townhall.model.keys import Put, Transaction

WEB = ServiceKey("default", "default", "web")
API = ServiceKey("default", "default", "api")


def register(id_: str = "a", key: ServiceKey = WEB, **fields: Any) -> Register:
    return Register(key=key, id=id_, address="127.0.0.1", port=80, **fields)


def put(key: bytes, value: bytes = b"") -> Transact:
    return Transact(space="native", transaction=Transaction(success=(Put(key, value),)))


class Running:
    """A hub with a clock that stands still unless the test moves it."""

    def __init__(self, engine: Engine | None = None, options: HubOptions | None = None) -> None:
        self.engine = engine if engine is not None else MemoryEngine()
        self.clock = SimulatedClock()
        self.hub = Hub.open(self.engine, options or HubOptions(node="here"), clock=self.clock, ids=SeededIds(1))

    def send(self, command: Command) -> asyncio.Future[Outcome | TownhallError]:
        future: asyncio.Future[Outcome | TownhallError] = asyncio.get_running_loop().create_future()
        self.hub.submit(command, INTERNAL, future.set_result)
        return future

    async def result(self, command: Command) -> Outcome | TownhallError:
        return await asyncio.wait_for(self.send(command), 120)

    async def done(self, command: Command) -> Outcome:
        result = await self.result(command)
        assert isinstance(result, Outcome), result
        return result


def running(
    body: Callable[[Running], Awaitable[None]], engine: Engine | None = None, options: HubOptions | None = None
) -> None:
    """Run ``body`` against a started hub, and stop it."""

    async def main() -> None:
        bench = Running(engine, options)
        await bench.hub.start()
        try:
            await body(bench)
        finally:
            await asyncio.wait_for(bench.hub.stop(), 120)

    asyncio.run(main())


async def until(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    """Poll for something that will come."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come"
        await asyncio.sleep(0.001)
