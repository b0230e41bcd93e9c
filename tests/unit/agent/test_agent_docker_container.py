from __future__ import annotations

import pytest
from docker_answers import container, recorded

from townhall.agent.docker_container import Port, neighbour_of, port_of, read_container, runs
from townhall.client.records import Health
from townhall.model.check import CheckStatus
from townhall.model.errors import InvalidField


def test_a_real_engines_words() -> None:
    web = read_container(recorded("w1"))
    assert (web.name, dict(web.ports), dict(web.published)) == ("w1", {Port(80): True}, {Port(80): ("0.0.0.0", 32768)})
    assert list(web.networks) == ["bridge"], "the mode is called default, the network bridge"
    assert web.health is None
    assert read_container(recorded("ho")).host_network
    assert list(read_container(recorded("nn")).networks) == ["n2", "bridge"]
    assert read_container(recorded("re")).environ["SERVICE_80_NAME"] == "re-http"
    many = read_container(recorded("mp"))
    assert list(many.ports) == [Port(80), Port(9000), Port(9001), Port(53, "udp")]
    assert many.health == Health(CheckStatus.CRITICAL, "the container is paused")


def test_between_two_starts_nothing_is_there() -> None:
    assert [name for name in ("w1", "mp", "rs") if runs(recorded(name))] == ["w1", "mp"]
    assert recorded("rs")["State"]["Running"], "in Docker's words it runs"
    assert not runs({})


def test_whose_network_it_is() -> None:
    assert neighbour_of(recorded("sc")) == recorded("w1")["Id"]
    assert neighbour_of(recorded("w1")) == neighbour_of({}) == ""
    shared = read_container(recorded("sc"), recorded("w1"))
    assert shared.reached(Port(80), directly=False, network="") == ("", 32768)
    assert shared.reached(Port(80), directly=True, network="") == (
        read_container(recorded("w1")).networks["bridge"],
        80,
    )


def test_how_it_is_reached() -> None:
    two = read_container(recorded("nn"))
    assert two.reached(Port(80), directly=True, network="bridge")[0].startswith("192.0.2.")
    with pytest.raises(InvalidField, match="no address in other"):
        two.reached(Port(80), directly=True, network="other")
    with pytest.raises(InvalidField, match=r"53/udp: is not published.*-p 53/udp"):
        two.reached(Port(53, "udp"), directly=False, network="")


def test_ports() -> None:
    assert [port_of(text) for text in ("80", "80/tcp", "53/udp")] == [Port(80), Port(80), Port(53, "udp")]
    assert [str(Port(80)), str(Port(53, "udp"))] == ["80", "53/udp"]
    for text in ("", "x", "0", "65536", "1/sctp", "/tcp"):
        with pytest.raises(ValueError, match="port"):
            port_of(text)
    assert read_container(container(ports={"1/sctp": None, "2/tcp": None})).ports == {Port(2): False}
