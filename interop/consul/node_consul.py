"""node-consul's own acceptance suite against Townhalls that it starts as if they were ``consul``. Prints TAP.

The suite is in no package: TOWNHALL_NODE_CONSUL names the folder of a copy of its repository. It is laid beside pinned
versions of what it needs in ``.cache/interop/node-consul``. Its agents listen on 127.0.0.1, .2 and .3, all on port 8500.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "interop" / "node-consul"
NEEDS = ["papi@1.1.2", "uuid@10.0.0", "should@13.2.3", "async@3.2.6", "debug@4.4.3", "temp@0.9.4", "mocha@10.7.3"]
SUITE_SECONDS = 500


def lay_out(copy: Path) -> str:
    """The suite with its dependencies in the cache; why not, when that is impossible."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in ("lib", "test"):
        shutil.copytree(copy / name, CACHE / name, dirs_exist_ok=True)
    done = CACHE / "ready"
    if done.exists() and done.read_text() == "\n".join(NEEDS):
        return ""
    (CACHE / "package.json").write_text('{"private": true}\n')
    npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact", *NEEDS]
    ran = subprocess.run(npm, cwd=CACHE, capture_output=True, text=True, timeout=300, check=False)
    if ran.returncode:
        return f"npm: {(ran.stderr.strip().splitlines() or ['failed'])[-1][:200]}"
    done.write_text("\n".join(NEEDS))
    return ""


def busy() -> str:
    """The first of the suite's addresses that somebody else listens on."""
    for last in (1, 2, 3):
        try:
            socket.create_server((f"127.0.0.{last}", 8500)).close()
        except OSError as error:
            return f"127.0.0.{last}:8500 cannot be listened on: {error.strerror}"
    return ""


def main() -> int:
    copy = Path(os.environ.get("TOWNHALL_NODE_CONSUL", ""))
    if not (copy / "test" / "acceptance").is_dir():
        print("1..0 # SKIP no copy of node-consul's repository here: TOWNHALL_NODE_CONSUL names its folder")
        return 0
    why = busy() or lay_out(copy)
    if why:
        print(f"1..0 # SKIP {why}")
        return 0
    environment = {
        **os.environ, "ACCEPTANCE": "true", "CONSUL_BIN": str(HERE / "agent.py"), "TOWNHALL_PYTHON": sys.executable,
    }  # fmt: skip
    mocha = [
        str(CACHE / "node_modules" / ".bin" / "mocha"), "test/acceptance", "--recursive", "--timeout", "30000",
        "--reporter", "tap", "--require", str(HERE / "node_skips.cjs"), "--exit", *sys.argv[1:],
    ]  # fmt: skip
    return subprocess.run(mocha, cwd=CACHE, env=environment, timeout=SUITE_SECONDS, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
