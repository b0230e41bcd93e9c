"""The status names every count once, with values that metrics can take."""

from __future__ import annotations

import json
import re

from running_hub import API, WEB, Running, register, running, until

from townhall.core.live import Subscriber
from townhall.hub import status as module
from townhall.hub.status import snapshot_of_status


def test_counts_follow_what_happens() -> None:
    async def body(bench: Running) -> None:
        before = snapshot_of_status(bench.hub)
        assert (before["position"], before["instances"], before["ready"]) == (0, 0, True)
        bench.hub.watch([WEB], lambda: None)
        bench.hub.view([API])
        bench.hub.subscribe(Subscriber("s", "s", "", "native", 0), [WEB])
        await bench.done(register("a"))
        await bench.done(register("b", API, persistent=True))
        await bench.result(register("c", tags=("t",) * 1_000))
        await until(lambda: bench.hub.cursors.wakes == 1)
        bench.clock.advance(200)
        status = snapshot_of_status(bench.hub)
        expected = {
            "position": 2, "instances": 2, "services": 2, "leases": 1, "leases_tracked": 1, "commands": 3, "commits": 2,
            "refusals": 1, "cursors": 1, "wakes": 1, "views": 0, "subscribers": 1, "append_count": 2, "pending": 0,
            "uptime_ms": 200, "engine": "ok", "errors": 0, "ephemeral_callable": 1,
        }  # fmt: skip
        assert {name: status[name] for name in expected} == expected

    running(body)


def test_it_can_be_written_as_json_and_buckets_add_up() -> None:
    async def body(bench: Running) -> None:
        await bench.done(register())
        status = snapshot_of_status(bench.hub)
        json.dumps(status)
        buckets = status["append_buckets"]
        assert isinstance(buckets, list)
        counts = [count for _, count in buckets]
        assert counts == sorted(counts)
        assert counts[-1] == status["append_count"]

    running(body)


def test_the_head_of_the_module_speaks_of_fields_that_exist() -> None:
    async def body(bench: Running) -> None:
        status = snapshot_of_status(bench.hub)
        for name in re.findall(r"``([a-z]+_[a-z_]+)``", module.__doc__ or ""):
            assert any(field.startswith(name.rstrip("*")) for field in status), name

    running(body)
