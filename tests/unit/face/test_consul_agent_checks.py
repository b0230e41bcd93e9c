from __future__ import annotations

import pytest
from consul_world import FaceWorld


@pytest.fixture
def world() -> FaceWorld:
    world = FaceWorld()
    world.service(Check={"CheckID": "c", "TTL": "30s"})
    return world


def test_a_sign_of_life_that_says_nothing_new_is_no_commit(world):
    world.put("/v1/agent/check/pass/c?note=fine")
    position = world.state.position
    world.put("/v1/agent/check/pass/c?note=fine")
    assert world.state.position == position
    assert world.beats == [("n1", "c")]
    world.put("/v1/agent/check/pass/c?note=better")
    assert world.state.position == position + 1


def test_update_sets_status_and_output(world):
    world.put("/v1/agent/check/update/c", {"Status": "warning", "Output": "line one\nline two"})
    shown = world.get("/v1/agent/checks")["c"]
    assert (shown["Status"], shown["Output"]) == ("warning", "line one\nline two")
    assert world.refused("PUT", "/v1/agent/check/update/c", {"Status": "nice"}) == (400, "Invalid check status: 'nice'")
    assert world.refused("PUT", "/v1/agent/check/update/c", {}) == (400, "Invalid check status: ''")


def test_output_is_kept_to_4_kilobytes(world):
    world.put("/v1/agent/check/update/c", {"Status": "passing", "Output": "y" * 5000})
    position = world.state.position
    assert len(world.get("/v1/agent/checks")["c"]["Output"]) <= 4_200
    world.put("/v1/agent/check/pass/c?note=")
    assert world.state.position == position + 1


def test_a_check_of_the_node_and_one_of_a_service(world):
    world.put("/v1/agent/check/register", {"Name": "mem", "TTL": "30s", "Status": "passing"})
    world.put("/v1/agent/check/register", {"ID": "extra", "Name": "e", "ServiceID": "web", "TTL": "30s"})
    shown = world.get("/v1/agent/checks")
    assert shown["mem"]["ServiceID"] == ""
    assert shown["extra"]["ServiceID"] == "web"
    world.put("/v1/agent/check/deregister/extra")
    assert sorted(world.get("/v1/agent/checks")) == ["c", "mem"]
    assert list(world.get("/v1/agent/checks?filter=Status%20==%20passing")) == ["mem"]


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    [
        ("register", {"TTL": "3s"}, (400, "Missing check name")),
        ("register", {"Name": "q", "TTL": "3s", "Status": "ok"}, (400, "Bad check status")),
        ("register", {"Name": "z", "ServiceID": "nope", "TTL": "3s"}, (404, 'ServiceID "nope" does not exist')),
        ("pass/none", b"", (404, 'Unknown check ID "none". Ensure that the check ID is passed, not the check name.')),
        (
            "deregister/none",
            b"",
            (404, 'Unknown check ID "none". Ensure that the check ID is passed, not the check name.'),
        ),
    ],
)
def test_refusals(world, path, body, refusal):
    assert world.refused("PUT", f"/v1/agent/check/{path}", body) == refusal


def test_only_a_ttl_check_takes_a_word(world):
    world.put("/v1/agent/check/register", {"ID": "h", "Name": "h", "HTTP": "http://127.0.0.1:1/", "Interval": "10s"})
    assert world.refused("PUT", "/v1/agent/check/pass/h") == (400, 'CheckID "h" does not have associated TTL')
    shown = world.get("/v1/agent/checks")["h"]
    assert (shown["Type"], shown["Interval"]) == ("http", "10s")
