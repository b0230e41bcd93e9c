from __future__ import annotations

import pytest
from consul_world import FaceWorld

from townhall.face import Stream


@pytest.fixture
def world() -> FaceWorld:
    return FaceWorld()


def test_what_clients_read_of_the_agent_is_there(world):
    shown = world.get("/v1/agent/self")
    assert shown["Config"]["Datacenter"] == "dc1"
    assert shown["Config"]["NodeName"] == "n1"
    assert shown["Config"]["Server"] is True
    assert shown["Config"]["Version"].count(".") == 2
    assert shown["Member"]["Name"] == "n1"
    assert shown["Member"]["Addr"] == "127.0.0.1"


def test_the_statistics_count_what_is_there(world):
    world.put("/v1/agent/service/register", {"Name": "web", "Check": {"TTL": "10s"}})
    stats = world.get("/v1/agent/self")["Stats"]["agent"]
    assert stats["checks"] == "1"
    assert stats["services"] == str(world.status()["instances"])


def test_members_between_datacenters_have_its_name(world):
    assert world.get("/v1/agent/members")[0]["Name"] == "n1"
    assert world.get("/v1/agent/members?wan=1")[0]["Name"] == "n1.dc1"


def test_version_host_and_metrics(world):
    assert world.get("/v1/agent/version")["HumanVersion"]
    assert world.get("/v1/agent/host")["Host"]["hostname"] == "n1"
    assert {"Name": "townhall.instances", "Value": 0, "Labels": {}} in world.get("/v1/agent/metrics")["Gauges"]
    assert world.call("GET", "/v1/agent/metrics?format=prometheus").body == b""


@pytest.mark.parametrize("path", ["reload", "leave", "join/127.0.0.1", "force-leave/n1"])
def test_one_client_cannot_send_the_server_away(world, path):
    assert world.put(f"/v1/agent/{path}").body == b""


def test_a_node_that_is_not_there_cannot_leave(world):
    status, text = world.refused("PUT", "/v1/agent/force-leave/ghost")
    assert status == 500, "as Consul has it"
    assert "No node found" in text


def test_agent_tokens_need_access_control(world):
    assert world.refused("PUT", "/v1/agent/token/agent", {"Token": "x"}) == (401, "ACL support disabled")


def test_monitor_is_a_stream(world):
    verb = world.verb("GET", "/v1/agent/monitor")
    assert isinstance(verb, Stream)
    assert b"log" in verb.pull(world.reader()).data
    assert verb.pull(world.reader()) is None
    assert world.refused("GET", "/v1/agent/monitor?loglevel=loud")[0] == 400
