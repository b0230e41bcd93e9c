from __future__ import annotations

import subprocess
import sys

import pytest

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
    # The orphan is taken in and reaped by the first process, which has no other child than us then.
    for _ in range(3000):
        found = open(f"/proc/{before}/task/{before}/children").read().split()
        if found == [str(os.getpid())]:
            raise SystemExit(5)
        time.sleep(0.01)
    raise SystemExit(6)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to another process than 1")
def test_the_first_process_reaps_and_passes_on() -> None:
    assert subprocess.run([sys.executable, "-c", INIT, "orphan"], timeout=120, check=False).returncode == 5
    process = subprocess.Popen([sys.executable, "-c", INIT, "signal"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.wait(120) == 4
    process.stdout.close()
