from __future__ import annotations

import pytest
from consul_world import FaceWorld

from townhall.face.consul.picture import service_key

ID = "40e4a748-2192-161a-0510-9bf59fe950b5"


@pytest.fixture
def world() -> FaceWorld:
    return FaceWorld()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Must provide node"),
        ({"Node": "x"}, "Must provide address if SkipNodeUpdate is not set"),
        ({"Node": "x", "Address": "127.0.0.1", "Service": {"ID": "a"}}, "Must provide service name (Service.Service)"),
        ({"Node": "x", "Address": "127.0.0.1", "ID": "no-uuid"}, "Bad node ID: uuid string is wrong length"),
        ({"Node": "x", "Address": "127.0.0.1", "Datacenter": "nowhere"}, "No path to datacenter"),
        (
            {"Node": "x", "Address": "127.0.0.1", "Check": {"Name": "c", "ServiceID": "ghost"}},
            "Unknown service ID 'ghost' for check ID 'c'",
        ),
        ({"Node": "x", "Address": "127.0.0.1", "Check": {"Name": "c", "Status": "meh"}}, "Invalid check status: 'meh'"),
        ({"Node": "x", "SkipNodeUpdate": True, "Service": {"Service": "s"}}, "Node lookup failed"),
        ({"Node": "x", "Address": "127.0.0.1", "What": 1}, 'unknown field "What"'),
    ],
)
def test_refusals_change_nothing(world, body, message):
    status, text = world.refused("PUT", "/v1/catalog/register", body)
    assert status == 400
    assert message in text
    assert world.state.position == 0


def test_node_service_and_checks_in_one(world):
    checks = [{"Name": "c1", "Status": "passing", "ServiceID": "db"}, {"Name": "node", "Status": "warning"}]
    world.external(ID=ID, Service={"Service": "db", "Port": 1}, Checks=checks)
    (row,) = world.get("/v1/health/service/db")
    assert row["Node"]["ID"] == ID
    assert [(check["CheckID"], check["Status"]) for check in row["Checks"]] == [("node", "warning"), ("c1", "passing")]
    assert world.healthy("db") == []


def test_a_moved_node_takes_its_services_along(world):
    world.external(Service={"Service": "db", "Port": 1})
    world.external(Address="127.1.0.2")
    assert world.reader().instance(service_key("db"), "ext/db").address == "127.1.0.2"
    assert world.get("/v1/health/service/db")[0]["Node"]["Address"] == "127.1.0.2"


def test_skipping_the_node_leaves_it_alone(world):
    world.external(NodeMeta={"a": "b"})
    world.put("/v1/catalog/register", {"Node": "ext", "SkipNodeUpdate": True, "Service": {"Service": "cache"}})
    assert world.get("/v1/catalog/node/ext")["Node"]["Meta"] == {"a": "b"}
    assert list(world.get("/v1/catalog/node/ext")["Services"]) == ["cache"]


def test_an_external_check_with_a_target_is_run(world):
    definition = {"TCP": "127.0.0.1:1", "Interval": "5s", "Timeout": "1s"}
    world.external(Check={"Name": "c", "Status": "passing", "Definition": definition})
    (check,) = world.reader().checks_of_node("ext")
    assert (check.definition.kind, check.definition.interval_ms) == ("tcp", 5_000)
    assert world.get("/v1/health/node/ext")[0]["Definition"] == definition


@pytest.mark.parametrize("weights", [{"Passing": 0, "Warning": 0}, {"Passing": 70_000}, {"Passing": 2, "Warning": -1}])
def test_weights_out_of_bounds_count_as_none(world, weights):
    # Go's client has no way not to send weights, so those of a service without any are zeros.
    world.external(Service={"Service": "db", "Weights": weights})
    assert world.get("/v1/catalog/service/db")[0]["ServiceWeights"] == {"Passing": 1, "Warning": 1}


def test_deregistration_by_check_service_and_node(world):
    world.external(Service={"Service": "db"}, Checks=[{"Name": "c", "ServiceID": "db", "Status": "passing"}])
    assert world.put("/v1/catalog/deregister", {"Node": "ext", "CheckID": "c"}).json is True
    assert world.get("/v1/health/checks/db") == []
    world.put("/v1/catalog/deregister", {"Node": "ext", "ServiceID": "db"})
    assert world.get("/v1/health/service/db") == []
    world.put("/v1/catalog/deregister", {"Node": "ext"})
    world.put("/v1/catalog/deregister", {"Node": "ext"})
    assert world.get("/v1/catalog/node/ext") is None
    assert world.refused("PUT", "/v1/catalog/deregister", {}) == (400, "Must provide node")


def test_the_servers_own_node_cannot_be_taken_away_with_what_others_registered(world):
    world.service()
    assert world.put("/v1/catalog/deregister", {"Node": "n1"}).json is True
    assert world.healthy() == ["web"]
