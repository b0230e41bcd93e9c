"""The same random program against a real etcd and Townhall; every answer is compared field by field. Prints TAP.

usage: differential.py [SEED [STEPS]]

The real etcd is $TOWNHALL_ETCD_REAL, else the one on PATH (3.6: older versions answer some requests differently). Without
a seed, a few fixed programs run. A difference names the seed, the step, the request and both answers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cached
from fresh import fresh

HERE = Path(__file__).parent
SEEDS = (1, 2, 3, 4)
STEPS = 1500
PROGRAM_SECONDS = 300


def main() -> int:
    real = os.environ.get("TOWNHALL_ETCD_REAL", "") or shutil.which("etcd")
    if not real:
        print("1..0 # SKIP no real etcd: TOWNHALL_ETCD_REAL may name one, or PATH")
        return 0
    seeds = [int(sys.argv[1])] if len(sys.argv) > 1 else [*SEEDS]
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else STEPS
    try:
        python, messages = cached.environment("aetcd"), cached.sources("aetcd")
    except cached.Missing as missing:
        print(f"1..0 # SKIP {missing}")
        return 0
    failed = 0
    for number, seed in enumerate(seeds, 1):
        with fresh(peer=real) as theirs, fresh(peer="") as ours:
            command = [python, str(HERE / "random_program.py"), theirs.address, ours.address, str(seed), str(steps)]
            environment = {**os.environ, "PYTHONPATH": str(messages)}
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False
            )
        failed += done.returncode != 0
        print(f"{'not ok' if done.returncode else 'ok'} {number} - seed {seed}, {steps} steps")
        print("\n".join(f"# {line}" for line in (done.stdout + done.stderr[-3000:]).splitlines()), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
