from __future__ import annotations

import re

from townhall.face.native.metrics import COUNTERS, exposition

STATUS: dict[str, object] = {
    "node": 'n"1\\\n', "ready": True, "engine": "ok", "instances": 7, "commits": 12, "append_p50_us": 31.5,
    "spaces": ["etcd"], "append_count": 3, "append_sum_us": 90, "append_buckets": [(10, 1), (100, 3)], "floor": {"held": 2, "engaged": True},
}  # fmt: skip
SAMPLE = re.compile(r'([a-z_][a-z0-9_]*)(\{[a-z]+="[^\n]*"\})? (-?[0-9.e+-]+)')


def test_every_line_is_prometheus_text() -> None:
    text = exposition(STATUS, version="1.2.3").decode()
    assert text.endswith("\n")
    described: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in described
            described[name] = kind
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            base = re.sub(r"_(bucket|sum|count)$", "", match[1]) if match[1] not in described else match[1]
            assert base in described


def test_counters_gauges_labels_and_the_histogram() -> None:
    text = exposition(STATUS, version="1.2.3").decode()
    assert "townhall_commits_total 12\n" in text
    assert "townhall_instances 7\n" in text
    assert "townhall_ready 1\n" in text
    assert "townhall_append_p50_us 31.5\n" in text
    assert 'townhall_append_duration_us_bucket{le="100"} 3\n' in text
    assert 'townhall_append_duration_us_bucket{le="+Inf"} 3\n' in text
    assert "townhall_append_duration_us_sum 90\n" in text
    assert r'townhall_info{engine="ok",node="n\"1\\\n",version="1.2.3"} 1' in text
    assert "spaces" not in text


def test_the_removal_floor_is_shown_part_by_part() -> None:
    text = exposition(STATUS, version="1.2.3").decode()
    assert "townhall_floor_held 2\n" in text
    assert "townhall_floor_engaged 1\n" in text


def test_counters_are_described() -> None:
    assert all(about.endswith(".") for about in COUNTERS.values())
