from __future__ import annotations

from typing import Any

import pytest
from docker_answers import container

from townhall.agent.checks import timing_of
from townhall.agent.definitions import Definition, placed
from townhall.agent.docker_labels import Containers
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


def test_registrators_names() -> None:
    env = [
        "SERVICE_NAME=shop", "SERVICE_TAGS=a,b", "SERVICE_80_CHECK_HTTP=/up", "SERVICE_80_CHECK_INTERVAL=15s", "SERVICE_TEAM=x",
        "SERVICE_443_NAME=secure", "SERVICE_443_CHECK_TCP=true",
    ]  # fmt: skip
    ports = {"80/tcp": [{"HostIp": "", "HostPort": "1"}], "443/tcp": [{"HostIp": "", "HostPort": "2"}], "9/tcp": None}
    found = {one.service.name: one for one in read(env=env, ports=ports)}
    assert set(found) == {"shop-80", "secure"}
    assert (found["shop-80"].service.tags, found["shop-80"].service.metadata) == (("a", "b"), {"team": "x"})
    assert [(name, check.interval_ms) for name, check in found["shop-80"].checks.items()] == [("http:/up", 15_000)]
    assert list(found["secure"].checks) == ["tcp"]
    assert one(labels={"SERVICE_NAME": "label"}, env=["SERVICE_NAME=environment"]).service.name == "label"
    assert len(read(env=[*env, "SERVICE_443_IGNORE=yes"], ports=ports)) == 1


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
