"""Registrations are tried once, where that cannot be abused, and it is told but changes nothing."""

from __future__ import annotations

import asyncio

from probe_world import answering, serving
from probing_hub import WEB, Probing, probing, until

from free_ports import free_port
from townhall.model import limits
from townhall.model.instance import Instance, Verdict
from townhall.probe import ProbeOptions
from townhall.probe.dialback import Dialback
from townhall.probe.ranges import Ranges


def registered(address: str, origin: str = "", port: int = 80) -> Instance:
    return Instance(key=WEB, id="a", address=address, port=port, origin=origin)


def may(instance: Instance, **options: object) -> bool:
    async def main() -> bool:
        return Dialback(ProbeOptions(**options)).may(instance)  # type: ignore[arg-type]

    return asyncio.run(main())


def test_only_the_clients_own_address_and_what_the_operator_named():
    assert may(registered("127.0.0.1", "127.0.0.1:5000"))
    assert may(registered("::1", "[::1]:5000"))
    assert not may(registered("127.0.0.2", "127.0.0.1:5000"))
    assert not may(registered("127.0.0.1"))
    assert not may(registered("127.0.0.1", "127.0.0.1:5000", port=0))
    assert not may(registered("127.0.0.1", "127.0.0.1:5000"), dialback=False)
    assert may(registered("127.0.0.2"), dialback_ranges=Ranges(("127.0.0.0/8",)))
    assert not may(registered("127.0.0.2"), dialback_ranges=Ranges(("127.0.0.3",)))
    assert not may(registered("127.0.0.1", "127.0.0.1:1"), ranges=Ranges((), ("127.0.0.0/8",)))
    assert not may(registered("localhost", "localhost:1")), "a name could lead anywhere"


def test_who_cannot_be_reached_is_told_and_nothing_else_changes():
    async def body(bench: Probing) -> None:
        async with serving(answering(b"")) as port:
            await bench.register("good", port=port, origin="127.0.0.1:1")
            await bench.register("bad", port=free_port(), origin="127.0.0.1:1")
            await until(lambda: len(bench.runner.dialback.unreachable) == 1)
            await until(lambda: bench.runner.dialback.dialled == 2)
        status = bench.hub.status()
        assert status["dialbacks_unreachable"] == 1
        assert status["dialback_failures"] == ["web/bad: connection refused"]
        assert bench.instance("bad").verdict is Verdict.UP
        await bench.register("bad", port=free_port(), origin="127.0.0.1:1", claim="same")
        await asyncio.sleep(0)
        assert bench.runner.dialback.dialled == 2, "only a new incarnation is tried"

    probing(body)


def test_a_mass_of_registrations_is_no_scan(monkeypatch):
    monkeypatch.setattr(limits, "DIALBACKS_WAITING_MAX", 3)

    async def main() -> None:
        dialback = Dialback(ProbeOptions())
        for _ in range(5):
            dialback.want(registered("127.0.0.1", "127.0.0.1:1"))
        assert dialback.counts()["dialbacks_skipped"] == 2

    asyncio.run(main())
    assert 1000 / limits.DIALBACK_SPACING_MS <= 200
    assert limits.DIALBACKS_AT_ONCE_MAX * limits.DIALBACK_TIMEOUT_MS <= 100_000


def test_only_so_many_failures_are_remembered(monkeypatch):
    monkeypatch.setattr(limits, "DIALBACKS_REMEMBERED_MAX", 1)

    async def body(bench: Probing) -> None:
        for id_ in "abc":
            await bench.register(id_, port=free_port(), origin="127.0.0.1:1")
        await until(lambda: bench.runner.dialback.dialled == 3)
        await until(lambda: list(bench.runner.dialback.unreachable) == [(WEB, "c")])

    probing(body)
