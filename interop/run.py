"""Foreign programs against a running Townhall: ``make interop``.

Each suite is one row: its toolchain, the command, and what it prints. Programs print TAP lines (``ok 1 - …``,
``not ok 2 - …``). A suite whose toolchain is missing is skipped with its reason, and fails the run under CI, where
nothing may be missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TAP = re.compile(r"^(ok|not ok)\b(.*)$", re.MULTILINE)
SUITE_SECONDS = 180


class Suite(NamedTuple):
    """One foreign program."""

    name: str
    tool: str
    """Executable that must be on PATH."""
    package: str
    """Debian package that has it."""
    command: list[str]
    """Run in ``interop/<protocol>``, with TOWNHALL_URL in the environment."""
    protocol: str = "native"


SUITES = [
    Suite("curl", "curl", "curl", ["sh", "curl.sh"]),
    Suite("node", "node", "nodejs", ["node", "client.mjs"]),
    Suite("go", "go", "golang-go", ["go", "run", "client.go"]),
    Suite("java", "java", "default-jdk-headless", ["java", "Client.java"]),
]


def serve() -> tuple[subprocess.Popen[str], str]:
    """A Townhall that keeps nothing, on a free port of the loopback."""
    command = [str(Path(sys.executable).with_name("townhall")), "up", "--dev", "--native", "0", "--ready-json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    return process, f"http://{ready['listen']['native']}"


def run(suite: Suite, url: str) -> tuple[int, int, str]:
    """(passed, failed, why skipped)."""
    if shutil.which(suite.tool) is None:
        return 0, 0, f"{suite.tool} is missing: apt install {suite.package}"
    environment = {**os.environ, "TOWNHALL_URL": url, "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    done = subprocess.run(
        suite.command, cwd=HERE / suite.protocol, env=environment, capture_output=True, text=True, timeout=SUITE_SECONDS, check=False
    )  # fmt: skip
    results = [match.group(1) for match in TAP.finditer(done.stdout)]
    failed = results.count("not ok") + (done.returncode != 0 and "not ok" not in results) + (not results)
    if failed:
        sys.stdout.write(done.stdout[-4000:] + done.stderr[-4000:])
    return results.count("ok"), failed, ""


def main() -> int:
    """Run all suites, print a line each, and a closing line that counts."""
    process, url = serve()
    passed = failed = skipped = 0
    try:
        for suite in SUITES:
            good, bad, reason = run(suite, url)
            passed, failed, skipped = passed + good, failed + bad, skipped + bool(reason)
            print(f"{suite.protocol}/{suite.name}: {reason or f'{good} passed, {bad} failed'}", flush=True)
    finally:
        process.terminate()
        process.wait(30)
    if os.environ.get("CI") and skipped:
        failed += skipped
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
