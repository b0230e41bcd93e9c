from __future__ import annotations

import asyncio

import pytest

from townhall.model.check import CheckDefinition, CheckKind, CheckStatus
from townhall.probe import Finding, Ground, look
from townhall.probe.ranges import Ranges

TCP = CheckDefinition(kind=CheckKind.TCP, target="127.0.0.1:1", timeout_ms=20)


def found(errors: list[Exception]) -> Finding:
    return asyncio.run(look.look(TCP, Ranges(), errors.append))


def test_a_look_finds_what_its_prober_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def probe(definition: CheckDefinition, ground: Ground) -> Finding:
        return Finding(CheckStatus.PASSING, f"{definition.target} within {ground.timeout_ms} ms")

    monkeypatch.setitem(look.PROBERS, CheckKind.TCP, probe)  # type: ignore[arg-type]
    assert found([]) == Finding(CheckStatus.PASSING, "127.0.0.1:1 within 20 ms")


def test_a_look_never_raises_and_never_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Exception] = []

    async def broken(definition: CheckDefinition, ground: Ground) -> Finding:
        raise ZeroDivisionError("what?")

    monkeypatch.setitem(look.PROBERS, CheckKind.TCP, broken)  # type: ignore[arg-type]
    assert found(errors).output == "the probe broke: what?"
    assert isinstance(errors[0], ZeroDivisionError)

    async def endless(definition: CheckDefinition, ground: Ground) -> Finding:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(look, "ABANDON_MS", 1)
    monkeypatch.setitem(look.PROBERS, CheckKind.TCP, endless)  # type: ignore[arg-type]
    assert found(errors).output == "timed out after 20 ms"
