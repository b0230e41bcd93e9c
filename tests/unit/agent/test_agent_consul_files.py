from __future__ import annotations

import json
from typing import Any

import pytest

from townhall.agent.checks import timing_of
from townhall.agent.consul_files import read_consul
from townhall.agent.definitions import Definition
from townhall.model import limits
from townhall.model.check import CheckKind
from townhall.model.errors import InvalidField

TIMING = timing_of(interval_ms=5_000, timeout_ms=None, failures=2, successes=1)

# The fields of the page "Services configuration reference" that mean something here.
WHOLE = {
    "service": {
        "id": "redis1",
        "name": "redis",
        "tags": ["primary"],
        "address": "127.0.0.1",
        "meta": {"Meta_Key": "for my service"},
        "tagged_addresses": {"lan": {"address": "127.0.0.2", "port": 8000}, "wan": {"address": "127.0.0.3"}},
        "port": 8000,
        "enable_tag_override": True,
        "weights": {"passing": 5, "warning": 1},
        "locality": {"region": "eu", "zone": "a"},
        "checks": [
            {"args": ["/usr/local/bin/check_redis.py"], "interval": "10s"},
            {
                "id": "api", "name": "HTTP API", "http": "https://localhost:5000/health", "tls_server_name": "a",
                "tls_skip_verify": True, "method": "POST", "header": {"Content_Type": ["application/json"]}, "body": "{}",
                "disable_redirects": True, "interval": "10s", "timeout": "1s", "success_before_passing": 3,
                "failures_before_warning": 1, "failures_before_critical": 2, "deregister_critical_service_after": "90m",
                "status": "passing", "notes": "why",
            },
            {"tcp": "localhost:22", "tcp_use_tls": True, "interval": "1m"},
            {"udp": "localhost:22", "interval": "10s"},
            {"grpc": "127.0.0.1:12345/my_service", "grpc_use_tls": True, "interval": "10s"},
        ],
    }
}  # fmt: skip


def read(content: Any, *, scripts: bool = True) -> list[Definition]:
    return read_consul(content if isinstance(content, str) else json.dumps(content), timing=TIMING, scripts=scripts)


def with_check(**check: Any) -> dict[str, Any]:
    return {"service": {"name": "a", "check": {"interval": "10s", **check}}}


def test_every_field() -> None:
    (one,) = read(WHOLE)
    service = one.service
    assert (service.name, service.id, service.port, service.address) == ("redis", "redis1", 8000, "127.0.0.1")
    assert (service.tags, service.weight, service.region, service.zone) == (("primary",), 5, "eu", "a")
    assert service.metadata == {
        "Meta_Key": "for my service",
        "address.lan": "127.0.0.2:8000",
        "address.wan": "127.0.0.3",
    }
    script, api, tcp, udp, grpc = one.checks.values()
    assert list(one.checks)[1] == "api"
    assert (script.kind, script.arguments) == (CheckKind.SCRIPT, ("/usr/local/bin/check_redis.py",))
    assert (api.kind, api.target, api.method, api.body) == (
        CheckKind.HTTP,
        "https://localhost:5000/health",
        "POST",
        "{}",
    )
    assert (api.tls_skip_verify, api.tls_server_name, api.follow_redirects) == (True, "a", False)
    assert api.headers == {"Content_Type": ("application/json",)}
    assert (api.interval_ms, api.timeout_ms) == (10_000, 1_000)
    assert (api.success_before_passing, api.failures_before_warning, api.failures_before_critical) == (3, 1, 2)
    assert (tcp.kind, tcp.tls, tcp.interval_ms) == (CheckKind.TCP, True, 60_000)
    assert (udp.kind, grpc.kind, grpc.tls) == (CheckKind.UDP, CheckKind.GRPC, True)
    assert one.deregister_after_ms == 90 * 60_000


def test_consuls_other_spellings_and_several_services() -> None:
    check = {
        "HTTP": "http://localhost/",
        "Interval": "1m30s",
        "TLSSkipVerify": True,
        "DeregisterCriticalServiceAfter": "1h",
    }
    first, second = read({"services": [{"Name": "a", "EnableTagOverride": False, "Check": check}, {"name": "b"}]})
    (made,) = first.checks.values()
    assert (made.interval_ms, made.tls_skip_verify, made.deregister_after_ms) == (90_000, True, 3_600_000)
    assert second.checks == {}


def test_empty_fields_are_as_good_as_absent() -> None:
    assert read({"service": {"name": "a", "token": "", "kind": "", "proxy": None, "address": "", "id": ""}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must be a table"),
        ({}, "names no service"),
        ({"service": {"name": "a"}, "data_dir": "/x"}, "datadir: only service and services are read here"),
        ({"service": {"name": "a"}, "checks": [{}]}, "checks: put it into the service"),
        ({"service": {"name": "a", "prot": 1}}, "service.prot: no such field"),
        ({"service": {"name": "a", "token": "x"}}, "service.token: is not used"),
        ({"service": {"name": "a", "kind": "connect-proxy"}}, "service.kind: proxies"),
        ({"service": {"name": "a", "connect": {"native": True}}}, "service.connect: Consul's mesh"),
        ({"service": {"name": "a", "port": "80"}}, "service.port: must be a whole number"),
        ({"services": [{"name": "a"}, {"name": ""}]}, r"services\[1\].name"),
        ({"service": {"name": "a", "weights": {"passing": "x"}}}, "service.weights.passing: must be a number"),
        (with_check(ttl="15s"), "service.check.ttl: nobody could send the heartbeat"),
        (with_check(docker_container_id="x", shell="/bin/sh"), "docker_container_id: commands in containers"),
        (with_check(alias_service="b"), "alias_service: checks that follow others"),
        (with_check(h2ping="localhost:1"), "h2ping: is not made"),
        (with_check(script="true"), "script: was removed from Consul"),
        (with_check(), "service.check: says nothing of how it is made"),
        (with_check(http="http://localhost/", tcp="localhost:1"), "service.check: has http and tcp"),
        (with_check(http="http://localhost/", interval=10), "service.check.interval: must be a text"),
        (with_check(http="http://localhost/", interval="1x"), "is not a duration"),
        (with_check(http="http://localhost/", interval=""), "interval: is needed"),
        (with_check(http="http://localhost/", header={"a": "b"}), "header: must be a table of lists"),
        (
            with_check(http="http://localhost/", success_before_passing=limits.CHECK_THRESHOLD_MAX + 1),
            "success_before_passing",
        ),
        (with_check(http="http://localhost/", hppt=1), "service.check.hppt: no such field"),
    ],
)
def test_what_cannot_be_kept_is_named(content: object, message: str) -> None:
    with pytest.raises(InvalidField, match=message):
        read(content)


def test_scripts_must_be_allowed() -> None:
    with pytest.raises(InvalidField, match=r"service.check.args: would run a command.*"):
        read(with_check(args=["true"]), scripts=False)
