from __future__ import annotations

import re
import signal
import subprocess
import sys

from townhall_process import DEADLINE_S, background, environment, until

PATIENT = """
import sys
from townhall.ops import cli
from townhall.ops.demo import play, script
play._LENGTH_MAX_S, script._SEEN_TIMEOUT_S = 100.0, 60.0
sys.exit(cli.run(["demo", "--pace", "0.3"]))
"""
"""It ends within 40 s for those who watch it, seen or not; on a busy machine its processes may need longer to start."""


def children_of(pid: int) -> list[int]:
    """With their children: `townhall run` has one."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(child) for child in file.read().split()]
    return children + [one for child in children for one in children_of(child)]


def test_no_call_fails_and_every_event_is_seen():
    done = subprocess.run(
        [sys.executable, "-c", PATIENT],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("A registry, three providers of the service greeter (alpha, beta, gamma)")
    assert "Do it yourself: townhall up" in done.stdout
    made, failed = re.search(r"calls made: ([\d,]+) +calls failed: ([\d,]+)", done.stdout).groups()
    assert int(made.replace(",", "")) > 100
    assert failed == "0"
    through, failed = re.search(r"through the gateway, without SDK: ([\d,]+) +failed: ([\d,]+)", done.stdout).groups()
    assert int(through.replace(",", "")) > 10
    assert failed == "0"
    summary = done.stdout[done.stdout.index("calls made: ") :]
    for event in (
        "add the provider delta", "change alpha's weight", "kill -9 beta", "hang gamma", "let gamma go on", "drain delta",
        "townhall run", "stop it", "kill -9 the registry", "start the registry again",
    ):  # fmt: skip
        assert re.search(rf"{event}.* \d+(\.\d+)? m?s$", summary, re.MULTILINE), event


def test_an_interrupted_demo_leaves_no_process_behind():
    with background("demo", "--plain") as process:
        pids = until(lambda: len(found := children_of(process.pid)) >= 5 and found, what="the processes of the demo")
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        out, errors = process.communicate()
        assert "Traceback" not in out + errors
    for pid in pids:
        until(lambda pid=pid: not running(pid), what=f"the end of process {pid}")


def running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
