"""``make bench``: run the scenarios, print a table, keep the result.

    python -m bench [--list] [--only reads,consul] [--rounds 3] [--no-peers] [--keep]

A name stands for all scenarios that begin with it: ``consul`` for ``consul-kv`` and its siblings, which compare us with
a real Consul in turn where one is on PATH (``bench.consul``). etcd and ZooKeeper are measured on their own protocols
where they are installed and their load generators are at hand (``bench.peers``). A scenario that fails is a row that
says so, and the others go on. ``--keep`` writes ``bench/results/<date>.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import consul, etcd, gateway, peers, scenarios, sdk

RESULTS = Path(__file__).parent / "results"
PEERS = "peers"
SCENARIOS: dict[str, Callable[[int], list[dict[str, Any]]]] = {
    **scenarios.SCENARIOS,
    **consul.SCENARIOS,
    **etcd.SCENARIOS,
    **gateway.SCENARIOS,
    **sdk.SCENARIOS,
    PEERS: peers.measure,
}


def machine() -> dict[str, Any]:
    """What it ran on, without the machine's name."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    packages = ("townhall", "msgspec", "httptools", "uvloop", "sortedcontainers")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": os.cpu_count(), "cpu": model, "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "pinned": "server on core 0, load on core 1, loopback, no TLS",
    }  # fmt: skip


def text(value: object) -> str:
    """A figure as people read it."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def lines(tables: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The results as readable lines, which are also the Markdown that is kept."""
    out = []
    for name, rows in tables.items():
        out.append(f"## {name}\n")
        for row in rows:
            figures = ", ".join(
                f"{key} {text(value)}" for key, value in row.items() if key != "what" and value is not None
            )
            out.append(f"- **{row['what']}**: {figures}")
        out.append("")
    return out


def chosen(only: str) -> list[str]:
    """The scenarios that are asked for, by name or by the beginning of it. Raises ``ValueError`` for one that is not."""
    found: dict[str, None] = {}
    for wanted in [name for name in only.split(",") if name]:
        names = [name for name in SCENARIOS if name == wanted or name.startswith(wanted + "-")]
        if not names:
            raise ValueError(f"no such scenario: {wanted}; there are: {', '.join(SCENARIOS)}")
        found.update(dict.fromkeys(names))
    return list(found) or list(SCENARIOS)


def attempt(name: str, rounds: int) -> list[dict[str, Any]]:
    """The rows of one scenario, or one that says why there are none."""
    began = time.monotonic()
    print(f"… {name}", file=sys.stderr, flush=True)
    try:
        rows = SCENARIOS[name](rounds)
    except Exception as error:
        traceback.print_exc()
        rows = [{"what": name, "failed": f"{type(error).__name__}: {error}"}]
    print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    """Run what was asked for; 1 when a scenario failed."""
    parser = argparse.ArgumentParser(prog="bench", description="Townhall's benchmarks")
    parser.add_argument("--list", action="store_true", help="print the scenarios with what they measure")
    parser.add_argument("--only", default="", help="comma-separated names, or what they begin with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true", help="leave etcd and ZooKeeper out")
    parser.add_argument("--keep", action="store_true", help="write bench/results/<date>.json and .md")
    options = parser.parse_args()
    if options.list:
        for name, run in SCENARIOS.items():
            print(f"{name:18} {(run.__doc__ or '').splitlines()[0]}")
        return 0
    try:
        names = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    about = machine()
    print("\n".join(f"{key}: {value}" for key, value in about.items()), flush=True)
    tables: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        if name == PEERS and options.no_peers:
            continue
        tables[name] = attempt(name, options.rounds)
        print("\n".join(lines({name: tables[name]})), flush=True)
    if options.keep:
        RESULTS.mkdir(exist_ok=True)
        base = RESULTS / about["date"]
        if base.with_suffix(".json").exists():
            # Scenarios that were run apart on one day are one set of results; what was run again replaces the older.
            tables = {**json.loads(base.with_suffix(".json").read_text())["results"], **tables}
        base.with_suffix(".json").write_text(json.dumps({"machine": about, "results": tables}, indent=1) + "\n")
        head = [f"# Measured {about['date']}\n", *(f"- {key}: {text(value)}" for key, value in about.items()), ""]
        base.with_suffix(".md").write_text("\n".join(head + lines(tables)))
    return int(
        any("failed" in row and "what" in row and row["what"] in names for rows in tables.values() for row in rows)
    )


if __name__ == "__main__":
    sys.exit(main())
