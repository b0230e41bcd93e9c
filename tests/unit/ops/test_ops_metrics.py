from __future__ import annotations

import re

from townhall.ops.metrics import grpc_metrics, http_metrics, process_metrics
from townhall.serve.counters import Counters, GrpcCounters

SAMPLE = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+]+')


def check(lines: list[str]) -> None:
    """Every line is a sample or explains one, and each name is explained once, before its samples."""
    known: set[str] = set()
    for line in lines:
        if line.startswith("# HELP "):
            name = line.split()[2]
            assert name not in known
            known.add(name)
        elif not line.startswith("# TYPE "):
            assert SAMPLE.fullmatch(line), line
            assert re.split(r"[{ ]", line)[0] in known


def test_http_counters_of_each_face():
    native, consul = Counters(), Counters()
    native.answered(200)
    native.answered(404)
    native.open = 3
    lines = list(http_metrics({"native": native, "consul": consul}))
    check(lines)
    assert 'townhall_http_answers_total{face="native",status="2xx"} 1' in lines
    assert 'townhall_http_answers_total{face="native",status="4xx"} 1' in lines
    assert 'townhall_http_answers_total{face="consul",status="2xx"} 0' in lines
    assert 'townhall_http_open{face="native"} 3' in lines


def test_every_counter_is_shown():
    text = "\n".join(http_metrics({"native": Counters()}))
    classes = {"informational", "successful", "redirected", "refused_client", "failed_server"}
    for name in set(Counters.__struct_fields__) - classes:
        assert f"townhall_http_{name}" in text, name


def test_grpc_counters_of_each_face_that_has_some():
    etcd = GrpcCounters()
    etcd.answered(0)
    etcd.answered(5)
    lines = list(grpc_metrics({"etcd": etcd}))
    check(lines)
    assert 'townhall_grpc_calls_total{face="etcd",code="0"} 1' in lines
    assert 'townhall_grpc_calls_total{face="etcd",code="5"} 1' in lines
    for name in set(GrpcCounters.__struct_fields__) - {"succeeded", "failed"}:
        assert f"townhall_grpc_{name}" in "\n".join(lines), name
    assert list(grpc_metrics({})) == []


def test_the_process():
    lines = list(process_metrics())
    check(lines)
    values = {line.split()[0]: float(line.split()[1]) for line in lines if not line.startswith("#")}
    assert values["process_resident_memory_bytes"] > 1_000_000
    assert values["process_cpu_seconds_total"] > 0
    assert values["process_start_time_seconds"] > 1_000_000_000
