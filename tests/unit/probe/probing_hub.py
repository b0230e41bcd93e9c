"""A running hub with a runner, and small ways to ask it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from townhall.core import Command, Outcome
from townhall.core.commands import PutCheck, Register
from townhall.engine.memory import MemoryEngine
from townhall.hub.hub import INTERNAL, Hub, HubOptions
from townhall.model.check import Check, CheckDefinition, CheckKind
from townhall.model.errors import TownhallError
from townhall.model.instance import Instance, ServiceKey
from townhall.probe import ProbeOptions
from townhall.probe.runner import Runner

WEB = ServiceKey("default", "default", "web")


class Probing:
    def __init__(self, options: ProbeOptions) -> None:
        self.hub = Hub.open(MemoryEngine(), HubOptions(node="here"))
        self.runner = Runner(self.hub, options, chance=random.Random(1))

    async def done(self, command: Command) -> Outcome:
        future: asyncio.Future[Outcome | TownhallError] = asyncio.get_running_loop().create_future()
        self.hub.submit(command, INTERNAL, future.set_result)
        result = await asyncio.wait_for(future, 120)
        assert isinstance(result, Outcome), result
        return result

    async def register(self, id_: str = "a", **fields: Any) -> None:
        fields = {"address": "127.0.0.1", "port": 80, "node": "n", "persistent": True} | fields
        await self.done(Register(key=WEB, id=id_, **fields))

    async def put(self, definition: CheckDefinition, id_: str = "c", **fields: Any) -> None:
        fields = {"key": WEB, "instance": "a"} | fields
        await self.done(PutCheck(node="n", id=id_, definition=definition, **fields))

    def check(self, id_: str = "c") -> Check:
        return self.hub.state.checks["n", id_]

    def instance(self, id_: str = "a") -> Instance:
        return self.hub.state.services[WEB].instances[id_]


def tcp(port: int, **fields: Any) -> CheckDefinition:
    fields = {"interval_ms": 50, "timeout_ms": 5_000} | fields
    return CheckDefinition(kind=CheckKind.TCP, target=f"127.0.0.1:{port}", **fields)


def probing(body: Callable[[Probing], Awaitable[None]], options: ProbeOptions | None = None) -> None:
    async def main() -> None:
        bench = Probing(options or ProbeOptions(interval_min_ms=20))
        await bench.hub.start()
        bench.hub.observer = bench.runner
        bench.runner.start()
        try:
            await asyncio.wait_for(body(bench), 120)
        finally:
            await bench.runner.stop()
            await asyncio.wait_for(bench.hub.stop(), 120)

    asyncio.run(main())


async def until(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    """Poll for something that will come."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come"
        await asyncio.sleep(0.005)
