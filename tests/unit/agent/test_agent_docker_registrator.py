from __future__ import annotations

from typing import Any

import pytest
from docker_answers import container

from townhall.agent.docker_container import Port, read_container
from townhall.agent.docker_labels import Wanted
from townhall.agent.docker_registrator import wanted_by_registrator
from townhall.model.errors import InvalidField


def wanted(*, directly: bool = False, host: bool = False, **given: Any) -> dict[str, Wanted]:
    inspected = container(**given)
    if host:
        inspected["HostConfig"]["NetworkMode"] = "host"
    return {one.name: one for one in wanted_by_registrator(read_container(inspected), directly=directly)}


def test_names_tags_and_metadata() -> None:
    env = [
        "SERVICE_NAME=shop", r"SERVICE_TAGS=a,b\,c, ", "SERVICE_80_CHECK_HTTP=/up", "SERVICE_80_CHECK_INTERVAL=15s",
        "SERVICE_TEAM=x", "SERVICE_443_NAME=secure", "SERVICE_443_CHECK_TCP=true", "SERVICE_CHECK_INITIAL_STATUS=passing",
    ]  # fmt: skip
    ports = {"80/tcp": [{"HostIp": "", "HostPort": "1"}], "443/tcp": [{"HostIp": "", "HostPort": "2"}], "9/tcp": None}
    found = wanted(env=env, ports=ports)
    assert set(found) == {"shop-80", "secure"}
    shop = found["shop-80"]
    assert (shop.port, shop.tags, shop.metadata) == (Port(80), ("a", "b,c"), {"team": "x"})
    assert (shop.check, shop.interval, found["secure"].check) == ("http:/up", "15s", "tcp")
    (label,) = wanted(labels={"SERVICE_NAME": "label"}, env=["SERVICE_NAME=environment"])
    assert label == "label"
    assert set(wanted(env=[*env, "SERVICE_443_IGNORE=yes"], ports=ports)) == {"shop-80"}
    assert set(wanted(env=env, ports=ports, directly=True)) == {"shop-80", "secure", "shop-9"}
    assert wanted(env=["SERVICE_NAME=a", "SERVICE_IGNORE=1"]) == wanted(env=["SERVICE_TAGS=a"]) == {}


def test_with_the_machines_network_what_is_exposed_counts() -> None:
    assert set(wanted(env=["SERVICE_NAME=a"], ports={"80/tcp": None}, host=True)) == {"a"}
    assert wanted(env=["SERVICE_NAME=a"], ports={"80/tcp": None}) == {}


@pytest.mark.parametrize(
    ("given", "check", "more"),
    [
        ({"CHECK_HTTP": "/a", "CHECK_HTTP_METHOD": "HEAD"}, "http:/a", {"method": "HEAD"}),
        ({"CHECK_HTTPS": "/a", "CHECK_TCP": "true"}, "https:/a", {}),
        ({"CHECK_TCP": "true"}, "tcp", {}),
        ({"CHECK_GRPC": "true"}, "grpc", {}),
        (
            {"CHECK_GRPC": "true", "CHECK_GRPC_USE_TLS": "true", "CHECK_TLS_SKIP_VERIFY": "true"},
            "grpcs",
            {"tls_skip_verify": True},
        ),
    ],
)
def test_checks(given: dict[str, str], check: str, more: dict[str, Any]) -> None:
    one = wanted(env=["SERVICE_NAME=a", *(f"SERVICE_{key}={text}" for key, text in given.items())])["a"]
    assert (one.check, one.check_more, one.metadata) == (check, more, {})


@pytest.mark.parametrize("check", ["CHECK_SCRIPT", "CHECK_CMD", "CHECK_TTL"])
def test_a_check_that_nobody_makes_is_not_passed_over(check: str) -> None:
    with pytest.raises(InvalidField, match=f"SERVICE_{check}"):
        wanted(env=["SERVICE_NAME=a", f"SERVICE_{check}=x"])
