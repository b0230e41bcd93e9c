#!/usr/bin/env python3
"""A ``consul`` for suites that start agents themselves: reads the flags of ``consul agent`` and becomes a Townhall.

``-node -datacenter -bind -client -data-dir -pid-file`` have their counterparts; of a configuration file only
``enable_script_checks`` is looked at. What says which server leads (``-bootstrap``, ``-server``) has none: there is one
server. Run with the interpreter in TOWNHALL_PYTHON; its log goes to standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
FACES = ("dns", "etcd", "zookeeper", "eureka", "nacos", "xds")


def flags(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="consul", description=__doc__)
    parser.add_argument("command", choices=["agent"])
    parser.add_argument("-node", default="")
    parser.add_argument("-datacenter", default="dc1")
    parser.add_argument("-bind", default="127.0.0.1")
    parser.add_argument("-client", default="127.0.0.1")
    parser.add_argument("-bootstrap", action="store_true")
    parser.add_argument("-server", action="store_true")
    parser.add_argument("-config-file", type=Path, dest="config")
    parser.add_argument("-data-dir", type=Path, dest="data", required=True)
    parser.add_argument("-pid-file", type=Path, dest="pid")
    return parser.parse_args(arguments)


def main() -> None:
    given = flags(sys.argv[1:])
    settings = json.loads(given.config.read_text()) if given.config else {}
    python = os.environ.get("TOWNHALL_PYTHON", sys.executable)
    command = [
        python, "-m", "townhall", "up", "--data", str(given.data), "--datacenter", given.datacenter,
        "--native", f"{given.bind}:0", "--consul", f"{given.client}:8500",
    ]  # fmt: skip
    if given.node:
        command += ["--name", given.node]
    if settings.get("enable_script_checks"):
        command.append("--probe-scripts")
    if given.pid:
        given.pid.parent.mkdir(parents=True, exist_ok=True)
        given.pid.write_text(f"{os.getpid()}\n")
    paths = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    off = {f"TOWNHALL_{face.upper()}": "off" for face in FACES}
    os.execve(python, command, {**os.environ, **off, "PYTHONPATH": paths})


if __name__ == "__main__":
    main()
