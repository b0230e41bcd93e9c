from __future__ import annotations

from typing import Any

import pytest
from docker_answers import container

from townhall.agent.docker_container import Port, read_container
from townhall.agent.docker_labels import Wanted, is_true, wanted_by_labels
from townhall.model.errors import InvalidField

PORTS = {f"{port}/tcp": [{"HostIp": "", "HostPort": str(port)}] for port in (80, 81)}


def wanted(labels: dict[str, str], **given: Any) -> list[Wanted] | None:
    return wanted_by_labels(read_container(container(labels=labels, **given)))


def test_one_service() -> None:
    labels = {
        "townhall.name": "a",
        "townhall.tags": "x, y,",
        "townhall.meta.k": "v",
        "townhall.zone": "z",
        "other": "o",
    }
    assert wanted(labels) == [
        Wanted(port=Port(80), name="a", tags=("x", "y"), metadata={"k": "v"}, places={"zone": "z"})
    ]
    assert wanted({"other": "o"}) is None
    assert wanted({"townhall.name": "a", "townhall.ignore": "true"}) == []


def test_the_port_that_is_meant() -> None:
    def port(**ports: Any) -> Port:
        (one,) = (
            wanted({"townhall.name": "a"}, ports={text.replace("_", "/"): where for text, where in ports.items()}) or []
        )
        return one.port

    bound = [{"HostIp": "", "HostPort": "1"}]
    assert port(**{"80_tcp": bound, "81_tcp": None, "53_udp": bound}) == Port(80)
    assert port(**{"81_tcp": None, "53_udp": bound}) == Port(81)
    assert port(**{"53_udp": bound}) == Port(53, "udp")


def test_a_service_for_each_of_several_ports() -> None:
    labels = {
        "townhall.80.name": "web", "townhall.80.check": "http:/", "townhall.81.name": "admin", "townhall.81.tags": "in",
        "townhall.tags": "all", "townhall.check": "tcp", "townhall.81.meta.k": "v",
    }  # fmt: skip
    web, admin = wanted(labels, ports=PORTS) or []
    assert (web.port, web.name, web.check, web.tags, web.metadata) == (Port(80), "web", "http:/", ("all",), {})
    assert (admin.port, admin.name, admin.check, admin.tags) == (Port(81), "admin", "tcp", ("in",))
    assert len(wanted(labels | {"townhall.81.ignore": "1"}, ports=PORTS) or []) == 1
    (one,) = wanted({"townhall.name": "a", "townhall.port": "80", "townhall.80.check": "tcp"}, ports=PORTS) or []
    assert (one.name, one.check) == ("a", "tcp")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"townhall.tags": "x"}, "townhall.name: is needed"),
        ({"townhall.name": "a"}, "townhall.port: is needed: the container's ports are 80, 81"),
        ({"townhall.name": "a", "townhall.port": "70000"}, "townhall.port"),
        ({"townhall.80.name": "a", "townhall.port": "80"}, "townhall.port: says nothing"),
        ({"townhall.80.name": "a", "townhall.81.check": "tcp"}, "townhall.81.name: is needed"),
        ({"townhall.80.nmae": "a"}, "townhall.80.nmae: no such label"),
        ({"townhall.80.port": "81"}, "no such label"),
        ({"townhall.80/sctp.name": "a"}, "neither TCP nor UDP"),
    ],
)
def test_what_makes_no_sense(labels: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidField, match=message):
        wanted(labels, ports=PORTS)


def test_yes_and_no() -> None:
    assert [is_true(text) for text in ("true", "1", "Yes", "", "0", " False ", "no")] == [True] * 3 + [False] * 4
