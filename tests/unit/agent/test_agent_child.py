from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
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


INIT = """
import os, signal, sys, time
from townhall.agent.init import become_init, take_orphans
take_orphans()
before = os.getpid()
become_init()
assert os.getppid() == before and os.getpgid(0) == os.getpid()
if sys.argv[1] == "orphan":
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.05)
        os._exit(0)
    os.wait()
    time.sleep(0.2)
    # The orphan was taken in and reaped by the first process, which has no other child than us now.
    found = open(f"/proc/{before}/task/{before}/children").read().split()
    raise SystemExit(5 if found == [str(os.getpid())] else 6)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to another process than 1")
def test_the_first_process_reaps_and_passes_on() -> None:
    assert subprocess.run([sys.executable, "-c", INIT, "orphan"], timeout=60, check=False).returncode == 5
    process = subprocess.Popen([sys.executable, "-c", INIT, "signal"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(60) == 4
    process.stdout.close()
