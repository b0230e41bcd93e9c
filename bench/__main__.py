"""``make bench``: run the scenarios, print a table, keep the result.

    python -m bench [--only reads,fanout] [--rounds 3] [--no-peers] [--keep]

Real peers (etcd, ZooKeeper) are measured in the same run, in turn, on their own protocols, where they are installed
and their load generators are at hand (``bench.peers``). ``--keep`` writes ``bench/results/<date>.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from bench import peers, scenarios

RESULTS = Path(__file__).parent / "results"


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


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="bench", description="Townhall's benchmarks")
    parser.add_argument("--only", default="", help=f"comma-separated: {', '.join(scenarios.SCENARIOS)}, peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/<date>.json and .md")
    options = parser.parse_args()
    chosen = [name for name in options.only.split(",") if name] or [*scenarios.SCENARIOS, "peers"]
    unknown = set(chosen) - {*scenarios.SCENARIOS, "peers"}
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    about = machine()
    print("\n".join(f"{key}: {value}" for key, value in about.items()), flush=True)
    tables: dict[str, list[dict[str, Any]]] = {}
    for name in chosen:
        if name == "peers" and options.no_peers:
            continue
        print(f"… {name}", file=sys.stderr, flush=True)
        tables[name] = peers.measure(options.rounds) if name == "peers" else scenarios.SCENARIOS[name](options.rounds)
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
