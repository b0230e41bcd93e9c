"""What a choice costs, and a change: CPU time of each balancer with few, many and very many instances.

    python -m bench.picks --instances 1000

Prints one JSON object: for each balancer, as a consumer makes it, the nanoseconds of a pick (through ``Chooser``, with the
accounting of the call for balancers that go by load and a key for those that know keys), the milliseconds of the first
build, and those of a change: one instance gets another weight, and the first pick after it is included, since some
balancers leave work to it. ``picture`` is the same change folded into what the mirror knows.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import msgspec

from townhall.client.chooser import Choice, Chooser
from townhall.client.consumer import BY_NAME
from townhall.client.picture import folded, picture_of
from townhall.client.records import Instance
from townhall.client.streams import WatchEvent
from townhall.client.zones import ZoneAware
from townhall.model.instance import ServiceKey

CHANGES = 7
RUNNING = 64
"""Calls that run at the same time, for balancers that count them."""
KEY = ServiceKey("default", "default", "web")


def fleet(count: int) -> list[Instance]:
    """Instances of three weights in three zones."""
    return [
        Instance(id=f"web-{n}", service="web", address="127.9.0.1", port=80, weight=1.0 + n % 3, zone="abc"[n % 3])
        for n in range(count)
    ]


def balancers() -> dict[str, Callable[[], Any]]:
    """Those that a consumer knows by name, and the default one in zones."""
    return {**BY_NAME, "smooth_weighted in zones": partial(ZoneAware, BY_NAME["smooth_weighted"], zone="a")}


def measure(make: Callable[[], Any], instances: list[Instance], picks: int) -> dict[str, float]:
    """The figures of one balancer."""
    chooser = Chooser(make(), Random(1), Choice())
    begun = time.process_time()
    chooser.rebuild(instances, now_ms=0.0, unix_ms=0.0)
    chooser.pick()
    first = time.process_time() - begun
    keys = [b"key-%d" % n for n in range(1_000)] if chooser._keyed is not None else [None]
    running: deque[Instance] = deque()
    tells = chooser._load is not None

    def pick(number: int) -> None:
        one = chooser.pick(keys[number % len(keys)])
        assert one is not None
        if tells:
            chooser.begun(one, now_ms=number)
            running.append(one)
            if len(running) > RUNNING:
                chooser.ended(running.popleft(), begun_ms=number - RUNNING, now_ms=number, failed=False)

    begun = time.process_time()
    for number in range(picks):
        pick(number)
    each = (time.process_time() - begun) / picks
    changes = []
    present = list(instances)
    for number in range(CHANGES):
        place = number * len(present) // CHANGES
        present[place] = msgspec.structs.replace(present[place], weight=4.0 + number)
        begun = time.process_time()
        chooser.rebuild(present, now_ms=0.0, unix_ms=0.0)
        chooser.pick(keys[0])
        changes.append(time.process_time() - begun)
    return {"pick_ns": each * 1e9, "first_ms": first * 1e3, "change_ms": statistics.median(changes) * 1e3}


def picture(instances: list[Instance]) -> dict[str, float]:
    """The change in the mirror's picture, before any balancer sees it."""
    known = picture_of(KEY, 1, instances)
    took = []
    for number in range(CHANGES):
        changed = msgspec.structs.replace(instances[0], weight=4.0 + number)
        event = WatchEvent(kind="delta", service="web", revision=2 + number, changed=(changed,))
        begun = time.process_time()
        change = folded(known, event)
        took.append(time.process_time() - begun)
        assert change is not None
        known = change.picture
    return {"change_ms": statistics.median(took) * 1e3}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--instances", type=int, required=True)
    parser.add_argument("--picks", type=int, default=20_000)
    options = parser.parse_args()
    instances = fleet(options.instances)
    # As in a program that has started: what stays is not looked at by each collection.
    gc.collect()
    gc.freeze()
    rows: dict[str, dict[str, float]] = {"picture": picture(instances)}
    for name, make in balancers().items():
        rows[name] = measure(make, instances, options.picks)
        gc.collect()
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
