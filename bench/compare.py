"""Townhall beside the real server, on one protocol: the same load on both, in turn, several rounds, medians, a ratio.

Both run for the whole of a comparison, pinned to the first core, and take turns; what the one that waits costs
meanwhile is a figure of the row when it is worth one (``idle_cpu``), so that one sees that it was not in the way.
There may be several real ones, of different versions: the ratio is to the better of them, in each row anew.
A protocol's file (``bench/consul.py``) says how its real server is started and what the loads are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from bench.server import Process

Row = dict[str, Any]
IDLE_CPU_SHOWN = 0.02


class Side(NamedTuple):
    """One of the servers that are compared."""

    name: str
    version: str
    process: Process
    where: dict[str, str]
    """What it listens for → host:port."""

    def url(self) -> str:
        """Of its HTTP API."""
        return f"http://{self.where['http']}"


class Aim(NamedTuple):
    """What is wanted of the ratio. ``key`` names the figure that is compared."""

    times: float
    key: str = "per_second"
    less: bool = False
    """A smaller figure is a better one."""


@contextmanager
def together(makers: Sequence[Callable[[], Side]]) -> Iterator[list[Side]]:
    """All sides, running; gone afterwards."""
    with ExitStack() as stack:
        sides = []
        for make in makers:
            side = make()
            stack.callback(side.process.remove)
            sides.append(side)
        yield sides


def beside(name: str, running: Sequence[Side], missing: str) -> list[Row]:
    """The row that says what it was compared with, or what is missing for that."""
    if len(running) > 1:
        return [{"what": f"beside {name} {' and '.join(side.version for side in running[1:])}"}]
    return [{"what": f"beside no {name}", "missing": missing}]


def compare(what: str, sides: Sequence[Side], rounds: int, aim: Aim, run: Callable[[Side], Row]) -> Row:
    """``run`` against each side in turn, ``rounds`` times; each figure of a row stands under its side's name."""
    found: dict[str, list[Row]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            others = [other for other in sides if other is not side]
            before, began = sum(other.process.cpu() for other in others), time.perf_counter()
            own = side.process.cpu()
            row = run(side)
            spent = side.process.cpu() - own
            idle = (sum(other.process.cpu() for other in others) - before) / (time.perf_counter() - began)
            if row.get("operations"):
                row["server_us"] = spent / row.pop("operations") * 1e6
            if idle > IDLE_CPU_SHOWN:
                row["idle_cpu"] = idle
            found[side.name].append(row)
    row: Row = {"what": what}
    values = {}
    for side in sides:
        rows = sorted(found[side.name], key=lambda each: float(each[aim.key]))
        middle = rows[len(rows) // 2]
        values[side.name] = float(middle[aim.key])
        figures = {**middle, "least": rows[0][aim.key], "most": rows[-1][aim.key]} if rounds > 1 else middle
        row |= {f"{side.name} {key}": value for key, value in figures.items()}
    if len(sides) > 1:
        rival = (min if aim.less else max)((side.name for side in sides[1:]), key=values.__getitem__)
        ours, theirs = values[sides[0].name], values[rival]
        better, worse = (theirs, ours) if aim.less else (ours, theirs)
        if len(sides) > 2:
            row["against"] = rival
        row["ratio"] = better / worse if worse > 0 else float("inf")
        row["aim"] = aim.times
    return row


def loaded(measured: Row) -> Row:
    """The figures of one run of ``bench.load``."""
    bad = {status: count for status, count in measured["statuses"].items() if int(status) >= 400}
    row = {
        "per_second": measured["rate"], "p50_ms": measured["latency_ms"]["p50"], "p99_ms": measured["latency_ms"]["p99"],
        "generator_cpu": measured["generator_cpu"], "operations": measured["operations"],
    }  # fmt: skip
    return {**row, "errors": bad} if bad else row
