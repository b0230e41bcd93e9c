"""The clients' own Python suites, from their source distributions, against a fresh server. Prints TAP.

usage: suite.py python-etcd3|aetcd|etcd3-py [pytest arguments]

``skips.json`` says for each what is left out and why. ``TOWNHALL_ETCD3_PY`` may name the folder of a copy of etcd3-py's
repository, which has a few tests more than its last release.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cached
import fresh

HERE = Path(__file__).parent
# The cache lies below this repository, whose own settings for pytest are not the suite's.
PLAIN = ["-c", os.devnull, "--rootdir", "."]


def main() -> int:
    name, *more = sys.argv[1:]
    try:
        folder, python, what = {"python-etcd3": python_etcd3, "aetcd": aetcd, "etcd3-py": etcd3_py}[name]()
        tool = cached.etcdctl()
    except cached.Missing as missing:
        print(f"1..0 # SKIP {missing}")
        return 0
    environment = {
        **cached.beside(tool), "PYTHONPATH": str(HERE / "plugin"), "TOWNHALL_SUITE": name,
        "TOWNHALL_SKIPS": str(HERE / "skips.json"),
    }  # fmt: skip
    command = [
        python,
        "-m",
        "pytest",
        "-p",
        "tap_of_suite",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        *PLAIN,
        *what,
        *more,
    ]
    # Each suite names the variable it reads; the address is known only once the server runs.
    script = (
        'export PYTHON_ETCD_HTTP_URL="http://$TOWNHALL_ETCD" TEST_ETCD_HTTP_URL="http://$TOWNHALL_ETCD" '
        'ETCD_ENDPOINT="http://$TOWNHALL_ETCD" TEST_ETCD_VERSION=v3.4.0 ETCD_VER=v3.4.0; exec "$@"'
    )
    return fresh.run(["sh", "-c", script, "sh", *command], environment, folder)


def python_etcd3() -> tuple[Path, str, list[str]]:
    return cached.sources("etcd3"), cached.environment("python-etcd3"), ["tests/test_etcd3.py"]


def aetcd() -> tuple[Path, str, list[str]]:
    mode = ["-o", "asyncio_mode=auto"]
    return cached.sources("aetcd"), cached.environment("aetcd"), ["tests/integration", *mode]


def etcd3_py() -> tuple[Path, str, list[str]]:
    given = os.environ.get("TOWNHALL_ETCD3_PY", "")
    folder = Path(given) if given else cached.sources("etcd3-py")
    return folder, cached.environment("etcd3-py"), ["tests", "-o", "asyncio_mode=auto", "-p", "no:warnings"]


if __name__ == "__main__":
    sys.exit(main())
