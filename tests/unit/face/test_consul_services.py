from __future__ import annotations

import pytest

from townhall.face.consul.bodies import Body
from townhall.face.consul.services import AGENT_SERVICE, Placed, again_at, check_meta, register_command, sidecar
from townhall.face.consul.shapes import EXTRA_ADDRESS, EXTRA_TAGGED
from townhall.face.consul.site import Site
from townhall.model.errors import InvalidField, Misuse
from townhall.model.instance import Instance, ServiceKey

PLACED = Placed(Site(node="n1"), node="n1", address="127.0.0.1", origin="127.0.0.1:9")


def command(**fields):
    return register_command(Body(fields, AGENT_SERVICE), "web", "web-1", PLACED)


def test_everything_has_its_place():
    made = command(Tags=["a", "", "b"], Port=80, Locality={"Region": "r", "Zone": "z"})
    assert made.key == ServiceKey("default", "default", "web")
    assert made.id == "web-1"
    assert made.persistent
    assert made.tags == ("a", "b")
    assert (made.region, made.zone) == ("r", "z")
    assert made.address == "127.0.0.1"
    assert made.extra == {EXTRA_ADDRESS: ""}
    assert (
        command(TaggedAddresses={"lan": {"Address": "127.0.0.3", "Port": 1}}).extra[EXTRA_TAGGED].startswith('{"lan"')
    )


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({f"k{i}": "" for i in range(65)}, "cannot contain more than 64"),
        ({"": "v"}, "Key cannot be blank"),
        ({"k.x": "v"}, "Key contains invalid characters"),
        ({"k" * 129: "v"}, "Key is too long (limit: 128 characters)"),
        ({"consul-x": "v"}, "Key prefix 'consul-' is reserved"),
        ({"k": "v" * 513}, "Value is too long (limit: 512 characters)"),
    ],
)
def test_metadata_bounds(meta, message):
    with pytest.raises(Misuse) as refused:
        check_meta(meta, "Invalid Service Meta")
    assert message in refused.value.message
    assert refused.value.message.startswith("Invalid Service Meta: ")


def test_refusals():
    for fields in ({"Port": 70_000}, {"Address": "no address"}, {"Weights": {"Passing": 70_000}}, {"Proxy": [1]}):
        with pytest.raises(Misuse):
            command(**fields)
    with pytest.raises(InvalidField):
        register_command(Body({}, None), "a b", "x", PLACED)
    with pytest.raises(Misuse, match="too large"):
        command(Proxy={"Config": {"x": "y" * 70_000}})


def test_a_sidecar_takes_a_free_port():
    body = Body({"Connect": {"SidecarService": {"Tags": ["t"]}}}, AGENT_SERVICE)
    made = sidecar(body, command(Port=80), "web-1", PLACED, frozenset({21_000}))
    assert made is not None
    assert (made.id, made.port, made.tags) == ("web-1-sidecar-proxy", 21_001, ("t",))
    assert sidecar(Body({}, AGENT_SERVICE), command(), "web-1", PLACED, frozenset()) is None
    with pytest.raises(Misuse, match="range of ports"):
        sidecar(body, command(), "web-1", PLACED, frozenset(range(21_000, 21_256)))


def test_again_at_changes_the_address_alone():
    instance = Instance(key=ServiceKey("default", "default", "web"), id="x", address="127.0.0.1", tags=("a",), node="n")
    made = again_at(instance, "127.0.0.2")
    assert (made.address, made.tags, made.node, made.id) == ("127.0.0.2", ("a",), "n", "x")
