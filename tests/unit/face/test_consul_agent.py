from __future__ import annotations

import pytest
from consul_world import FaceWorld

from townhall.core.commands import Register, StartDrain
from townhall.face import Reply
from townhall.face.consul.picture import service_key

TTL = {"TTL": "30s"}


@pytest.fixture
def world() -> FaceWorld:
    return FaceWorld()


def test_a_service_is_shown_as_it_was_registered(world):
    world.service(Tags=["a", "b"], Meta={"zone": "x"}, Weights={"Passing": 5, "Warning": 2}, EnableTagOverride=True)
    shown = world.get("/v1/agent/services")["web"]
    assert shown["Tags"] == ["a", "b"]
    assert shown["Meta"] == {"zone": "x"}
    assert shown["Weights"] == {"Passing": 5, "Warning": 2}
    assert shown["EnableTagOverride"] is True
    assert shown["TaggedAddresses"]["lan_ipv4"] == {"Address": "127.0.0.9", "Port": 80}


def test_a_service_without_address_is_called_at_the_nodes(world):
    world.service(Address="")
    assert world.get("/v1/agent/services")["web"]["Address"] == ""
    assert world.reader().instance(service_key("web"), "web").address == "127.0.0.1"


def test_nobody_sees_a_service_before_its_checks(world):
    world.service(Check=TTL)
    assert world.state.position == 1  # one commit
    assert world.healthy() == []
    assert world.healthy(query="") == ["web"]
    world.put("/v1/agent/check/pass/service:web")
    assert world.healthy() == ["web"]


def test_several_checks_are_numbered(world):
    world.service(Checks=[{**TTL, "Status": "passing"}, {**TTL, "CheckID": "mine"}, {**TTL, "Name": "third"}])
    assert sorted(world.get("/v1/agent/checks")) == ["mine", "service:web:1", "service:web:3"]


def test_checks_stay_unless_they_are_to_be_replaced(world):
    world.service(Check={**TTL, "CheckID": "one"})
    world.service(Check={**TTL, "CheckID": "two"})
    assert sorted(world.get("/v1/agent/checks")) == ["one", "two"]
    body = {"Name": "web", "Check": {**TTL, "CheckID": "three"}}
    world.put("/v1/agent/service/register?replace-existing-checks", body)
    assert sorted(world.get("/v1/agent/checks")) == ["three"]


def test_an_id_belongs_to_one_service_of_the_agent(world):
    world.service("web", "x")
    world.service("api", "x")
    assert world.get("/v1/agent/services")["x"]["Service"] == "api"
    assert sorted(world.get("/v1/catalog/services")) == ["api", "consul"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Request decode failed: EOF"),
        (b'{"Name":', "Request decode failed: unexpected EOF"),
        ({"ID": "x"}, "Missing service name"),
        ({"Name": "a", "Bogus": 1}, 'Request decode failed: json: unknown field "Bogus"'),
        ({"Name": "a", "Address": "0.0.0.0"}, "Invalid service address"),
        ({"Name": "a", "Weights": {"Passing": 0}}, "Invalid Weights: Passing must be greater than 0"),
        ({"Name": "a", "Check": {"Name": "x"}}, "Invalid check: TTL must be > 0 for TTL checks"),
        ({"Name": "a", "Kind": "connect-proxy"}, "Validation failed: 1 error occurred"),
    ],
)
def test_what_is_wrong_changes_nothing(world, body, message):
    status, text = world.refused("PUT", "/v1/agent/service/register", body)
    assert status == 400
    assert message in text
    assert world.state.position == 0


def test_a_sidecar_comes_and_goes_with_its_service(world):
    world.service(Connect={"SidecarService": {}})
    shown = world.get("/v1/agent/services")["web-sidecar-proxy"]
    assert shown["Kind"] == "connect-proxy"
    assert shown["Port"] == 21000
    assert shown["Proxy"]["DestinationServiceName"] == "web"
    assert [row["Service"]["ID"] for row in world.get("/v1/health/connect/web")] == ["web-sidecar-proxy"]
    world.service(Connect={"SidecarService": {}})
    assert world.get("/v1/agent/services")["web-sidecar-proxy"]["Port"] == 21000
    world.put("/v1/agent/service/deregister/web")
    assert world.get("/v1/agent/services") == {}


def test_deregistration_of_the_unknown_is_told(world):
    status, text = world.refused("PUT", "/v1/agent/service/deregister/none")
    assert (status, text) == (
        404,
        'Unknown service ID "none". Ensure that the service ID is passed, not the service name.',
    )


def test_the_hash_blocks_until_the_service_looks_different(world):
    world.service()
    digest = world.call("GET", "/v1/agent/service/web").headers["X-Consul-ContentHash"]
    park = world.park(f"/v1/agent/service/web?hash={digest}&wait=10s")
    assert world.attempt(park) is None
    world.service(Port=81)
    reply = world.attempt(park)
    assert isinstance(reply, Reply)
    assert b'"Port":81' in reply.body
    assert world.refused("GET", "/v1/agent/service/none") == (404, "unknown service ID: none")


def test_maintenance_of_a_service_is_one_for_every_protocol(world):
    world.service()
    world.put("/v1/agent/service/maintenance/web?enable=true&reason=upgrade")
    assert world.healthy() == []
    assert world.reader().instance(service_key("web"), "web").verdict == "maintenance"
    check = world.get("/v1/agent/checks")["_service_maintenance:web"]
    assert (check["Status"], check["Notes"], check["Type"]) == ("critical", "upgrade", "maintenance")
    world.put("/v1/agent/service/maintenance/web?enable=false")
    assert world.healthy() == ["web"]
    assert world.get("/v1/agent/checks") == {}


def test_maintenance_of_the_node_takes_all_its_services(world):
    world.service("web")
    world.service("api")
    world.put("/v1/agent/maintenance?enable=true")
    assert world.healthy("web") == world.healthy("api") == []
    world.put("/v1/agent/maintenance?enable=false")
    world.put("/v1/agent/maintenance?enable=false")
    assert world.healthy("web") == ["web"]
    assert world.refused("PUT", "/v1/agent/maintenance") == (400, "Missing value for enable")
    assert world.refused("PUT", "/v1/agent/maintenance?enable=perhaps")[1] == 'Invalid value for enable: "perhaps"'


@pytest.mark.parametrize(("said", "status"), [("pass", 200), ("warn", 429), ("fail", 503)])
def test_health_of_ones_own_service_is_in_the_status(world, said, status):
    world.service(Check={**TTL, "CheckID": "c"})
    world.put(f"/v1/agent/check/{said}/c")
    for path in ("/v1/agent/health/service/id/web", "/v1/agent/health/service/name/web"):
        assert world.call("GET", path).status == status
    text = world.call("GET", "/v1/agent/health/service/id/web?format=text")
    assert text.body.decode() in ("passing", "warning", "critical")
    assert text.reply.content_type == b"text/plain"
    assert world.call("GET", "/v1/agent/health/service/id/none").status == 404
    assert world.call("GET", "/v1/agent/health/service/name/none").json == []


def test_what_other_protocols_registered_is_there(world):
    world.run(Register(key=service_key("native"), id="n-1", address="127.0.0.7", port=1, ttl_ms=30_000))
    assert world.get("/v1/agent/services")["n-1"]["Service"] == "native"
    assert world.healthy("native") == ["n-1"]
    assert world.get("/v1/agent/checks")["service:n-1"]["Status"] == "passing"
    world.run(StartDrain(key=service_key("native"), id="n-1"))
    assert world.healthy("native") == []
    assert world.get("/v1/agent/checks")["service:n-1"]["Status"] == "critical"


def test_a_drain_of_a_consul_service_is_shown_as_a_check(world):
    world.service()
    world.run(StartDrain(key=service_key("web"), id="web"))
    assert world.healthy() == []
    assert world.get("/v1/health/checks/web")[0]["Status"] == "critical"


def test_services_are_filtered(world):
    world.service("web", Tags=["v1"])
    world.service("api")
    assert list(world.get("/v1/agent/services?filter=v1%20in%20Tags")) == ["web"]
    assert 'Selector "Nope" is not valid' in world.refused("GET", "/v1/agent/services?filter=Nope%20==%201")[1]
