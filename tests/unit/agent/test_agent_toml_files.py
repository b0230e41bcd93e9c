from __future__ import annotations

import pytest

from townhall.agent.checks import timing_of
from townhall.agent.definitions import Definition
from townhall.agent.toml_files import read_toml
from townhall.model.check import CheckKind
from townhall.model.errors import InvalidField

TIMING = timing_of(interval_ms=5_000, timeout_ms=None, failures=2, successes=1)

WHOLE = """
[service]
name = "web"
port = 8001
id = "web-1"
namespace = "shop"
group = "blue"
address = "127.0.0.2"
ports = { admin = 9001 }
tags = ["v2"]
metadata = { team = "shop", replicas = 3, canary = true }
weight = 2
region = "eu"
zone = "a"
cluster = "c"
checks = ["http:/health", "tcp"]
check_interval = "1m30s"
check_timeout = "2s"
check_failures = 3
check_successes = 2
deregister_after = "10m"
"""


def read(text: str, *, scripts: bool = False) -> list[Definition]:
    return read_toml(text, timing=TIMING, scripts=scripts)


def test_every_field() -> None:
    (one,) = read(WHOLE)
    service = one.service
    assert (service.name, service.port, service.id, service.namespace, service.group) == (
        "web",
        8001,
        "web-1",
        "shop",
        "blue",
    )
    assert (service.address, service.ports, service.tags, service.weight) == (
        "127.0.0.2",
        {"admin": 9001},
        ("v2",),
        2.0,
    )
    assert service.metadata == {"team": "shop", "replicas": "3", "canary": "true"}
    assert (service.region, service.zone, service.cluster) == ("eu", "a", "c")
    assert [check.kind for check in one.checks.values()] == [CheckKind.HTTP, CheckKind.TCP]
    check = one.checks["tcp"]
    assert (check.interval_ms, check.timeout_ms, check.failures_before_critical, check.success_before_passing) == (
        90_000,
        2_000,
        3,
        2,
    )
    assert one.deregister_after_ms == 600_000


def test_several_services_and_what_they_need_not_say() -> None:
    found = read('[[service]]\nname = "a"\n[[service]]\nname = "b"\nport = 1\ncheck = "tcp"\n')
    assert [(one.service.name, one.service.port, len(one.checks)) for one in found] == [("a", 0, 0), ("b", 1, 1)]
    assert found[1].checks["tcp"].interval_ms == 5_000


def test_scripts_must_be_allowed() -> None:
    text = '[service]\nname = "a"\ncheck = "script:true"\n'
    with pytest.raises(InvalidField, match="--enable-scripts"):
        read(text)
    assert read(text, scripts=True)[0].checks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no service"),
        ("x = ", "is not TOML"),
        ('[servise]\nname = "a"', r"servise: no such field.*"),
        ("service = 1", "service: must be a list"),
        ('[service]\nname = "a"\nprot = 1', "service.prot: no such field"),
        ("[service]\nport = 1", "service.name"),
        ('[service]\nname = "a b"', "service.name"),
        ('[[service]]\nname = "a"\n[[service]]\nname = 1', r"service\[1\].name: must be a text"),
        ('[service]\nname = "a"\nport = 70000', "service.port"),
        ('[service]\nname = "a"\nport = -1', "service.port: must be a whole number"),
        ('[service]\nname = "a"\nport = true', "service.port: must be a whole number"),
        ('[service]\nname = "a"\ntags = [1]', "service.tags: must be a list of texts"),
        ('[service]\nname = "a"\nmetadata = { a = [] }', "service.metadata.a: must be a text"),
        ('[service]\nname = "a"\nports = { a = "x" }', "service.ports.a: must be a whole number"),
        ('[service]\nname = "a"\nweight = "1"', "service.weight: must be a number"),
        ('[service]\nname = "a"\ncheck = "http:/"', "needs the service's port"),
        ('[service]\nname = "a"\ncheck_interval = "5"', "service.check_interval: '5' is not a duration"),
        ('[service]\nname = "a"\ncheck_interval = "1ms"', "check-interval: must be at least"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidField, match=message):
        read(text)


def test_a_slip_of_the_pen_is_guessed() -> None:
    with pytest.raises(InvalidField) as refused:
        read('[service]\nname = "a"\nwieght = 1')
    assert refused.value.advice == "did you mean weight?"
