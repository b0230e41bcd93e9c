"""py-consul's own test suite, from its source distribution, against Townhall. Prints TAP.

The suite and what it needs are fetched once into ``.cache/interop/py-consul``; without a package index this prints
``1..0 # SKIP`` with the reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "interop" / "py-consul"
VERSION = "1.8.0"
NEEDS = ["pytest==8.3.5", "pytest-asyncio==0.26.0", "requests", "aiohttp", "docker", "packaging", "msgspec", "uvloop"]
SUITE_SECONDS = 600


def install() -> str:
    """Fetch what is missing; the reason when that is impossible."""
    done = CACHE / f"ready-{VERSION}"
    if done.exists():
        return ""
    CACHE.mkdir(parents=True, exist_ok=True)
    venv.create(CACHE / "venv", with_pip=True, clear=True)
    pip = [str(CACHE / "venv" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    for step in (
        [*pip, "install", *NEEDS],
        [*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", str(CACHE), f"py-consul=={VERSION}"],
    ):
        ran = subprocess.run(step, capture_output=True, text=True, timeout=300, check=False)
        if ran.returncode:
            return f"pip: {(ran.stderr.strip().splitlines() or ['failed'])[-1][:200]}"
    with tarfile.open(CACHE / f"py_consul-{VERSION}.tar.gz") as archive:
        archive.extractall(CACHE, filter="data")
    done.touch()
    return ""


def main() -> int:
    why = install()
    if why:
        print(f"1..0 # SKIP {why}")
        return 0
    folder = CACHE / f"py_consul-{VERSION}"
    environment = {**os.environ, "PYTHONPATH": str(HERE), "TOWNHALL_PYTHON": sys.executable}
    command = [str(CACHE / "venv" / "bin" / "python"), "-m", "pytest", "-p", "townhall_plugin", "-q", "--tb=short"]
    return subprocess.run(
        [*command, "-o", "addopts=", *sys.argv[1:]], cwd=folder, env=environment, timeout=SUITE_SECONDS, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
