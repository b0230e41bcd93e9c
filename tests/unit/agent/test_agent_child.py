from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from townhall.agent.child import CANNOT_EXECUTE, NOT_FOUND, Child, exit_code
from townhall_process import until


def test_codes_are_those_of_a_shell() -> None:
    assert [exit_code(code) for code in (0, 3, -signal.SIGTERM)] == [0, 3, 128 + signal.SIGTERM]
    assert (CANNOT_EXECUTE, NOT_FOUND) == (126, 127)


START = "echo $! > {0}/left; echo ready > {0}/ready; wait"


async def begin(folder: Path, left: str) -> Child:
    """A shell that has something running beside it."""
    child = await Child.start(["sh", "-c", f"{left} & " + START.format(folder)], os.environ)
    while not (folder / "ready").exists():  # noqa: ASYNC110 - another process is waited for
        await asyncio.sleep(0.01)
    return child


def test_a_program_gets_signals_and_takes_its_group_along(tmp_path: Path) -> None:
    async def main() -> None:
        child = await begin(tmp_path, "sleep 1000")
        assert child.running
        assert os.getpgid(child.pid) == child.pid
        child.signal(signal.SIGTERM)
        assert await child.ended == 128 + signal.SIGTERM
        assert child.leftover
        assert await child.clear(budget_s=120)
        assert not child.leftover
        child.signal(signal.SIGTERM)
        child.signal_group(signal.SIGTERM)

    asyncio.run(main())
    assert gone(int((tmp_path / "left").read_text()))


def test_what_is_left_may_end_in_peace_and_is_killed_when_it_does_not(tmp_path: Path) -> None:
    polite = (
        f"sh -c 'trap \"echo bye > {tmp_path}/bye; exit\" TERM; touch {tmp_path}/set; while :; do sleep 0.01; done'"
    )
    stubborn = f"sh -c 'trap \"\" TERM; touch {tmp_path}/set; while :; do sleep 0.01; done'"

    async def main(left: str, budget_s: float) -> bool:
        child = await begin(tmp_path, left)
        while not (tmp_path / "set").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        child.signal(signal.SIGKILL)
        assert await child.ended == 128 + signal.SIGKILL
        return await child.clear(budget_s=budget_s)

    assert asyncio.run(main(polite, 30))
    assert (tmp_path / "bye").read_text() == "bye\n"
    for name in ("set", "ready"):
        (tmp_path / name).unlink()
    assert not asyncio.run(main(stubborn, 0.2))
    until(lambda: gone(int((tmp_path / "left").read_text())), what="the stubborn one to end")


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def test_a_program_that_is_not_there() -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await Child.start(["/nowhere/to/be/found"], {})

    asyncio.run(main())
