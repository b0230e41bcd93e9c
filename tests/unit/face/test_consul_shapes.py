from __future__ import annotations

from townhall.face.consul.shapes import agent_service, check_object, health_service, service_id
from townhall.face.consul.site import Site
from townhall.model.check import Check, CheckDefinition, CheckKind
from townhall.model.instance import Instance, ServiceKey

SITE = Site(node="n1")
KEY = ServiceKey("default", "default", "web")


def test_ids_lose_the_name_of_their_node():
    assert service_id(Instance(key=KEY, id="ext/web", address="127.0.0.1", node="ext"), SITE) == "web"
    assert service_id(Instance(key=KEY, id="a/b", address="127.0.0.1"), SITE) == "a/b"


def test_addresses_of_both_families():
    for address, family in (("127.0.0.1", "lan_ipv4"), ("::1", "lan_ipv6")):
        assert family in agent_service(Instance(key=KEY, id="x", address=address), SITE)["TaggedAddresses"]
    assert "TaggedAddresses" not in agent_service(Instance(key=KEY, id="x", address="host.test"), SITE)


def test_indexes_are_never_zero():
    shown = health_service(Instance(key=KEY, id="x", address="127.0.0.1"), SITE)
    assert shown["CreateIndex"] == shown["ModifyIndex"] == 1


def test_checks_of_other_nodes_show_how_they_are_run():
    definition = CheckDefinition(
        kind=CheckKind.HTTP, target="http://127.0.0.1/", interval_ms=5_000, method="PUT", body="b", headers={"A": ("b",)},
        tls_skip_verify=True, tls_server_name="s", deregister_after_ms=60_000,
    )  # fmt: skip
    shown = check_object(Check(node="ext", id="c", definition=definition), None, SITE)
    assert shown["Definition"]["HTTP"] == "http://127.0.0.1/"
    assert shown["Definition"]["Interval"] == "5s"
    assert shown["Type"] == "http"
    assert shown["Status"] == "critical"
    assert check_object(Check(node="n1", id="c", definition=definition), None, SITE, local=True)["Definition"] == {}
    for kind, field in ((CheckKind.TCP, "TCP"), (CheckKind.UDP, "UDP"), (CheckKind.GRPC, "GRPC")):
        other = Check(node="ext", id="c", definition=CheckDefinition(kind=kind, target="127.0.0.1:1"))
        assert check_object(other, None, SITE)["Definition"] == {field: "127.0.0.1:1"}
