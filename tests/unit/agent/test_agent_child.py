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


def test_a_program_gets_signals_and_takes_its_group_along(tmp_path: Path) -> None:
    async def main() -> None:
        script = f"sleep 1000 & echo $! > {tmp_path}/left; echo ready > {tmp_path}/ready; wait"
        child = await Child.start(["sh", "-c", script], os.environ)
        assert child.running
        assert os.getpgid(child.pid) == child.pid
        while not (tmp_path / "ready").exists():  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.01)
        child.signal(signal.SIGTERM)
        assert await child.ended == 128 + signal.SIGTERM
        child.signal(signal.SIGTERM)
        child.kill_group()

    asyncio.run(main())
    left = int((tmp_path / "left").read_text())
    until(lambda: gone(left), what="the rest of its group to end")


def gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def test_a_program_that_is_not_there() -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await Child.start(["/nowhere/to/be/found"], {})

    asyncio.run(main())
