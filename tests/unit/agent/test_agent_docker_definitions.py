from __future__ import annotations

from typing import Any

import pytest
from docker_answers import container, recorded

from townhall.agent.checks import timing_of
from townhall.agent.definitions import Definition, placed
from townhall.agent.docker_definitions import Containers
from townhall.client.records import Health
from townhall.model.check import CheckStatus
from townhall.model.errors import InvalidField

TIMING = timing_of(interval_ms=5_000, timeout_ms=None, failures=2, successes=1)
NAMED = {"townhall.name": "web"}


def read(*, by_container_address: bool = False, **given: Any) -> list[Definition]:
    containers = Containers(host="h1", timing=TIMING, by_container_address=by_container_address)
    return list(containers.definitions(container(**given)).values())


def one(**given: Any) -> Definition:
    (found,) = read(**given)
    return found


def test_labels_make_a_service_at_its_published_port() -> None:
    labels = NAMED | {
        "townhall.check": "http:/health", "townhall.check.interval": "1m", "townhall.tags": "a, b,", "townhall.weight": "2",
        "townhall.meta.team": "shop", "townhall.zone": "z", "townhall.group": "blue", "townhall.namespace": "n",
        "org.opencontainers.image.title": "x",
    }  # fmt: skip
    made = one(labels=labels)
    service = made.service
    assert (service.name, service.namespace, service.group, service.id) == ("web", "n", "blue", "docker-h1-web-80")
    assert (service.address, service.port, service.tags, service.weight) == (None, 32768, ("a", "b"), 2.0)
    assert (service.metadata, service.zone) == ({"team": "shop"}, "z")
    (check,) = made.checks.values()
    assert (placed(check, "127.0.0.1").target, check.interval_ms) == ("http://127.0.0.1:32768/health", 60_000)


def test_where_others_reach_it() -> None:
    assert (one(labels=NAMED, by_container_address=True).service.address, 80) == ("192.0.2.2", 80)
    bound = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "53/udp": [{"HostIp": "", "HostPort": "53"}]}
    service = one(labels=NAMED, ports=bound).service
    assert (service.address, service.port) == ("127.0.0.1", 8080)
    on_host = container(labels=NAMED | {"townhall.port": "9"}, ports={})
    on_host["HostConfig"]["NetworkMode"] = "host"
    (found,) = Containers(host="h1", timing=TIMING).definitions(on_host).values()
    assert (found.service.address, found.service.port) == (None, 9)


def test_who_says_nothing_is_not_registered() -> None:
    assert read() == []
    assert read(labels=NAMED | {"townhall.ignore": "true"}) == []
    assert read(env=["SERVICE_NAME=a", "SERVICE_IGNORE=1"]) == []


def test_what_a_real_engine_says() -> None:
    containers = Containers(host="h1", timing=TIMING)
    found: dict[str, list[Any]] = {}
    for name in ("w1", "ho", "v6", "nn", "hc", "re", "mp"):
        made = containers.definitions(recorded(name)).values()
        found[name] = [(one.service.name, one.service.address, one.service.port, one.service.tags) for one in made]
    assert found == {
        "w1": [("web", None, 32768, ())],
        "ho": [("ho", None, 8099, ())],
        "v6": [("v6", "::1", 8098, ())],
        "nn": [("nn", None, 32789, ())],
        "hc": [("hc", None, 32769, ())],
        "re": [("re-http", None, 32775, ("a", "b")), ("re-443", None, 32769, ("a", "b", "udp"))],
        "mp": [("mp-dns", None, 32770, ("udp",)), ("mp-web", None, 32790, ())],
    }
    inside = Containers(host="h1", timing=TIMING, by_container_address=True)
    (made,) = inside.definitions(recorded("nn")).values()
    assert made.service.address == "198.51.100.2", "its own network before the one that it was connected to later"


def test_who_shares_a_network_is_reached_at_the_others_ports() -> None:
    containers = Containers(host="h1", timing=TIMING)
    (made,) = containers.definitions(recorded("sc"), recorded("w1")).values()
    assert (made.service.id, made.service.port) == ("docker-h1-sc-80", 32768)
    with pytest.raises(InvalidField, match="is not published"):
        containers.definitions(recorded("sc"))


def test_tcp_and_udp_of_one_number_are_two_instances() -> None:
    labels = {"townhall.53.name": "dns", "townhall.53/udp.name": "dns", "townhall.tags": "a"}
    bound = {f"53/{protocol}": [{"HostIp": "", "HostPort": "5353"}] for protocol in ("udp", "tcp")}
    made = read(labels=labels, ports=bound)
    assert {(one.service.id, one.service.tags) for one in made} == {
        ("docker-h1-web-53", ("a",)), ("docker-h1-web-53-udp", ("a", "udp")),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "health"),
    [
        ({}, None),
        ({"Health": {"Status": "none"}}, None),
        ({"Health": {"Status": "healthy", "FailingStreak": 0, "Log": []}}, Health(CheckStatus.PASSING)),
        ({"Health": {"Status": "starting"}}, Health(CheckStatus.CRITICAL, "Docker's health check says starting")),
        (
            {
                "Health": {
                    "Status": "unhealthy",
                    "FailingStreak": 3,
                    "Log": [{"ExitCode": 1, "Output": "\ncurl: (7)\nmore"}],
                }
            },
            Health(CheckStatus.CRITICAL, "Docker's health check says unhealthy: curl: (7)"),
        ),
        ({"Paused": True}, Health(CheckStatus.CRITICAL, "the container is paused")),
    ],
)
def test_what_docker_itself_says(state: dict[str, Any], health: Health | None) -> None:
    assert one(labels=NAMED, **state).health == health


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": NAMED | {"townhall.check": "script:rm -rf /"}}, "a label may not run commands"),
        ({"labels": NAMED | {"townhall.check": "http://198.51.100.1/"}}, "looks elsewhere than at the container"),
        ({"labels": NAMED | {"townhall.check": "tcp:198.51.100.1:22"}}, "looks elsewhere"),
        ({"labels": NAMED | {"townhall.check": "ftp:"}}, "is no check"),
        ({"labels": NAMED | {"townhall.chek": "tcp"}}, "townhall.chek: no such label"),
        ({"labels": {"townhall.port": "80"}}, "townhall.name: is needed"),
        ({"labels": {"townhall.name": "a b"}}, "name"),
        ({"labels": NAMED | {"townhall.port": "x"}}, "townhall.port: 'x' is no port"),
        ({"labels": NAMED | {"townhall.port": "81"}}, "port 81: is not published"),
        ({"labels": NAMED, "ports": {}}, "townhall.port: is needed: the container's ports are none"),
        ({"labels": NAMED | {"townhall.weight": "x"}}, "townhall.weight"),
        ({"labels": NAMED | {"townhall.check": "tcp", "townhall.check.interval": "x"}}, "is not a duration"),
        ({"labels": NAMED | {"townhall.network": "other"}, "by_container_address": True}, "no address in other"),
    ],
)
def test_what_is_wrong_names_the_container(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidField, match=f"container web: .*{message}"):
        read(**given)


def test_what_is_no_description() -> None:
    with pytest.raises(InvalidField, match="cannot be read"):
        Containers(host="h1", timing=TIMING).definitions({"Config": None})
