"""Answers of the DNS face, name by name and type by type."""

from __future__ import annotations

import random

import pytest
from dns_world import DnsWorld, arpa, edns, shown

from townhall.core.commands import Deregister, PutNode, StartDrain
from townhall.face.dns import Found
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.errors import Conflict, Malformed
from townhall.model.instance import ServiceKey
from townhall.wire.dns import BADVERS, NOERROR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL, Edns, Subnet

WEB = "web.service.consul"


@pytest.fixture
def world():
    world = DnsWorld()
    world.node("n1", "127.0.1.1", rack="r1", **{"rfc1035-note": "plain"})
    world.node("n2", "127.0.1.2")
    world.register("web", "w1", "127.0.2.1", 8001, tags=("V1", "blue"), weight=7.0, node="n1")
    world.register("web", "n2/w2", "127.0.1.2", 8002, tags=("v2",), node="n2", extra={"consul.address": ""})
    world.register("web", "w3", "127.0.2.3", 8003)
    return world


def missing(message) -> bool:
    return message.rcode == NXDOMAIN and not message.answers and shown(message.authority)[0].startswith("consul. 0 SOA")


def nodata(message) -> bool:
    return message.rcode == NOERROR and not message.answers and shown(message.authority)[0].startswith("consul. 0 SOA")


@pytest.mark.parametrize("type_", ["A", "ANY"])
def test_addresses_of_a_service(world, type_):
    message = world.ask(WEB, type_)
    assert message.authoritative
    assert not message.recursion_available
    assert not message.truncated
    assert shown(message.answers) == [f"{WEB}. 0 A {address}" for address in ("127.0.1.2", "127.0.2.1", "127.0.2.3")]


def test_srv_leads_to_nodes_and_addresses(world):
    message = world.ask(WEB, "SRV")
    assert shown(message.answers) == [
        f"{WEB}. 0 SRV 1 1 8002 n2.node.dc1.consul.",
        f"{WEB}. 0 SRV 1 7 8001 7f000201.addr.dc1.consul.",
        f"{WEB}. 0 SRV 1 1 8003 7f000203.addr.dc1.consul.",
    ]
    assert shown(message.additional) == [
        "n2.node.dc1.consul. 0 A 127.0.1.2",
        "7f000201.addr.dc1.consul. 0 A 127.0.2.1",
        "7f000203.addr.dc1.consul. 0 A 127.0.2.3",
    ]


def test_srv_to_a_node_brings_its_metadata_unless_that_is_off():
    for on, texts in ((True, ["n1.node.dc1.consul. 0 TXT rack=r1"]), (False, [])):
        world = DnsWorld(node_meta_txt=on)
        world.node("n1", "127.0.1.1", rack="r1")
        world.register("web", "w1", "127.0.1.1", node="n1", extra={"consul.address": ""})
        additional = shown(world.ask(WEB, "SRV").additional)
        assert additional == ["n1.node.dc1.consul. 0 A 127.0.1.1", *texts]


@pytest.mark.parametrize("name", ["v1.web.service.consul", "_web._V1.service.consul", "BLUE.WEB.service.dc1.CONSUL"])
def test_tags_select_in_any_case(world, name):
    message = world.ask(name)
    assert shown(message.answers) == [f"{name}. 0 A 127.0.2.1"]


@pytest.mark.parametrize("type_", ["AAAA", "MX", "TXT", "PTR", "CNAME"])
def test_what_is_there_without_this_type_is_no_data(world, type_):
    assert nodata(world.ask(WEB, type_))


@pytest.mark.parametrize(
    "name", ["none.service.consul", "v9.web.service.consul", "web.service.dc2.consul", "ghost.node.consul", "x.consul",
             "zz.addr.consul", "q.query.consul", "web.connect.consul"],
)  # fmt: skip
def test_what_is_not_there_is_a_miss_with_soa(world, name):
    assert missing(world.ask(name))


@pytest.mark.parametrize("name", ["consul", "service.consul", "node.consul", "dc1.consul", "_tcp.service.consul"])
@pytest.mark.parametrize("type_", ["A", "ANY"])
def test_names_above_others_are_no_data(world, name, type_):
    assert nodata(world.ask(name, type_))


def test_names_with_capitals_are_found_and_a_miss_is_not_kept_beyond(world):
    resolution = world.resolve("dcase.service.consul")
    assert resolution.rcode == NXDOMAIN
    assert resolution.interests is not None
    assert ("services", "default") in resolution.interests
    world.register("Dcase", "d1", "127.0.2.9")
    assert world.lines("dcase.service.consul") == ["dcase.service.consul. 0 A 127.0.2.9"]
    assert world.lines("DCASE.service.consul") == ["DCASE.service.consul. 0 A 127.0.2.9"]
    world.run(Deregister(key=ServiceKey("default", "default", "Dcase"), id="d1"))
    assert missing(world.ask("dcase.service.consul"))
    assert not world.state.folded


def test_names_with_dots_are_found_behind_tags(world):
    world.register("com.example.Shop", "s1", "127.0.2.8")
    assert world.lines("com.example.shop.service.consul") == ["com.example.shop.service.consul. 0 A 127.0.2.8"]


def test_only_what_may_be_called_is_given(world):
    world.check("n1", "web", "w1", "critical")
    world.run(StartDrain(key=ServiceKey("default", "default", "web"), id="w3"))
    assert world.lines(WEB) == [f"{WEB}. 0 A 127.0.1.2"]
    world.check("n2", "", "", "critical")
    assert missing(world.ask(WEB))


def test_a_warning_has_its_own_weight_and_can_be_left_out():
    for only_passing, weights in ((False, ["1 2 80", "1 7 81"]), (True, ["1 7 81"])):
        world = DnsWorld(only_passing=only_passing)
        world.node("n1", "127.0.1.1")
        world.register("web", "w1", "127.0.2.1", 80, node="n1", weight=7.0, extra={"consul.warning_weight": "2"})
        world.register("web", "w2", "127.0.2.2", 81, node="n1", weight=7.0)
        world.check("n1", "web", "w1", "warning")
        assert [" ".join(line.split()[3:6]) for line in world.lines(WEB, "SRV")] == weights


def test_addresses_and_places_come_once():
    world = DnsWorld(a_record_limit=2)
    for n in range(4):
        world.register("web", f"w{n}", "127.0.2.1" if n < 2 else f"127.0.2.{n}", 80)
    assert world.lines(WEB) == [f"{WEB}. 0 A 127.0.2.1", f"{WEB}. 0 A 127.0.2.2"]
    assert len(world.ask(WEB, "SRV", edns=edns(4096)).answers) == 3


def test_weight_nothing_gets_no_calls_while_others_are_there():
    world = DnsWorld()
    world.register("web", "w1", "127.0.2.1", weight=0.0)
    assert world.lines(WEB) == [f"{WEB}. 0 A 127.0.2.1"]
    world.register("web", "w2", "127.0.2.2", weight=0.4)
    assert world.lines(WEB) == [f"{WEB}. 0 A 127.0.2.2"]
    assert [line.split()[4] for line in world.lines(WEB, "SRV")] == ["0", "1"]


def test_ipv6(world):
    world.register("six", "s1", "2001:db8::2", 8006)
    assert nodata(world.ask("six.service.consul"))
    assert world.lines("six.service.consul", "AAAA") == ["six.service.consul. 0 AAAA 2001:db8::2"]
    message = world.ask("six.service.consul", "SRV")
    target = "20010db8000000000000000000000002.addr.dc1.consul."
    assert shown(message.answers) == [f"six.service.consul. 0 SRV 1 1 8006 {target}"]
    assert shown(message.additional) == [f"{target} 0 AAAA 2001:db8::2"]


def test_host_names_are_aliases(world):
    world.register("ext", "e1", "svc.example.test", 8007)
    assert world.lines("ext.service.consul") == ["ext.service.consul. 0 CNAME svc.example.test."]
    assert world.lines("ext.service.consul", "CNAME") == ["ext.service.consul. 0 CNAME svc.example.test."]
    assert world.lines("ext.service.consul", "SRV") == ["ext.service.consul. 0 SRV 1 1 8007 svc.example.test."]
    world.register("ext", "e2", "127.0.2.7")
    assert world.lines("ext.service.consul") == ["ext.service.consul. 0 A 127.0.2.7"]


def test_aliases_of_our_own_names_are_followed_so_far(world):
    world.register("a", "1", "b.service.consul")
    world.register("b", "1", WEB)
    lines = world.lines("a.service.consul", edns=edns(1232))
    assert lines[:3] == [
        "a.service.consul. 0 CNAME b.service.consul.", f"b.service.consul. 0 CNAME {WEB}.", f"{WEB}. 0 A 127.0.1.2",
    ]  # fmt: skip
    world.register("loop", "1", "loop.service.consul")
    assert len(world.lines("loop.service.consul", edns=edns(1232))) == limits.DNS_ALIAS_DEPTH_MAX + 1


def test_aliases_of_foreign_names_are_a_recursors_matter():
    world = DnsWorld(recursion=True)
    world.register("ext", "e1", "svc.example.test")
    resolution = world.resolve("ext.service.consul")
    assert resolution.chase is not None
    assert resolution.interests is None
    assert world.resolve("ext.service.consul", flags=0).chase is None


def test_nodes(world):
    assert world.lines("n1.node.consul") == ["n1.node.consul. 0 A 127.0.1.1"]
    assert world.lines("N1.node.dc1.consul", "TXT") == [
        "N1.node.dc1.consul. 0 TXT rack=r1", "N1.node.dc1.consul. 0 TXT plain",
    ]  # fmt: skip
    assert len(world.lines("n1.node.consul", "ANY")) == 3
    assert len(world.ask("n1.node.consul").additional) == 2
    for type_ in ("AAAA", "SRV", "MX"):
        assert nodata(world.ask("n1.node.consul", type_))
    world.node("Big.One", "host.example.test")
    assert world.lines("big.one.node.consul") == ["big.one.node.consul. 0 CNAME host.example.test."]


def test_this_node_is_always_there(world):
    assert world.lines("here.node.consul") == ["here.node.consul. 0 A 127.0.0.1"]
    assert world.lines("consul.service.consul", "SRV") == [
        "consul.service.consul. 0 SRV 1 1 8300 here.node.dc1.consul."
    ]
    world.node("here", "127.0.0.9")
    assert world.lines("HERE.node.consul") == ["HERE.node.consul. 0 A 127.0.0.9"]


def test_addresses_written_in_hexadecimal(world):
    assert world.lines("7f010203.addr.consul") == ["7f010203.addr.consul. 0 A 127.1.2.3"]
    message = world.ask("7f010203.addr.consul", "SRV")
    assert nodata(message)
    assert shown(message.additional) == ["7f010203.addr.consul. 0 A 127.1.2.3"]


def test_authority(world):
    for name in ("consul", WEB):
        soa, ns = world.ask(name, "SOA"), world.ask(name, "NS")
        assert shown(soa.answers) == ["consul. 0 SOA ns.consul. 1700000000"]
        assert shown(soa.authority) == shown(ns.answers) == ["consul. 0 NS here.node.dc1.consul."]
        assert shown(ns.additional) == ["here.node.dc1.consul. 0 A 127.0.0.1"]


def test_reverse_names(world):
    name = arpa("127.0.1.1")
    assert world.lines(name, "PTR") == [f"{name}. 0 PTR n1.node.dc1.consul."]
    assert world.lines(arpa("127.0.2.3"), "PTR") == [f"{arpa('127.0.2.3')}. 0 PTR web.service.dc1.consul."]
    assert world.lines(arpa("127.0.0.1"), "PTR") == [f"{arpa('127.0.0.1')}. 0 PTR here.node.dc1.consul."]
    assert nodata(world.ask(name, "A"))
    assert missing(world.ask(arpa("127.0.9.9"), "PTR"))
    assert nodata(world.ask("0.127.in-addr.arpa", "PTR"))
    world.run(PutNode(name="n9", address="127.0.9.9"))
    assert missing(world.ask(arpa("127.0.9.9"), "PTR"))
    world.now_ms += limits.DNS_REVERSE_INTERVAL_MS
    assert world.lines(arpa("127.0.9.9"), "PTR") == [f"{arpa('127.0.9.9')}. 0 PTR n9.node.dc1.consul."]


def test_reverse_names_of_instances_are_left_out_of_large_registries(world, monkeypatch):
    monkeypatch.setattr(limits, "DNS_REVERSE_INSTANCES_MAX", 2)
    assert missing(world.ask(arpa("127.0.2.3"), "PTR"))
    assert world.lines(arpa("127.0.1.1"), "PTR")


def test_the_second_domain_answers_with_its_own_names():
    world = DnsWorld(alt_domain="my.alt")
    world.register("web", "w1", "127.0.2.1")
    assert world.lines("web.service.my.alt", "SRV") == ["web.service.my.alt. 0 SRV 1 1 80 7f000201.addr.dc1.my.alt."]
    assert shown(world.ask("no.service.my.alt").authority) == ["my.alt. 0 SOA ns.my.alt. 1700000000"]


def test_other_domains_are_refused_or_passed_on():
    assert DnsWorld().ask("example.test").rcode == REFUSED
    assert not DnsWorld().ask("example.test").authoritative
    world = DnsWorld(recursion=True)
    assert world.resolve("example.test").forward
    assert world.resolve(arpa("127.0.9.9"), "PTR").forward
    assert not world.resolve(arpa("127.0.0.1"), "PTR").forward
    assert world.ask("example.test", flags=0).rcode == REFUSED


def test_what_is_no_question_for_us(world):
    assert world.ask(WEB, class_=3).rcode == REFUSED
    assert world.ask(WEB, "AXFR").rcode == NOTIMP
    notify = world.ask(WEB, flags=4 << 11)
    assert (notify.rcode, notify.opcode) == (NOTIMP, 4)
    assert world.ask(WEB, edns=Edns(1232, 1)).rcode == BADVERS


def test_times_to_live():
    world = DnsWorld(node_ttl_s=9, service_ttls_s={"web": 5, "we*": 6, "api*": 7, "*": 8})
    for service in ("web", "west", "api-x", "other"):
        world.register(service, "1", "127.0.2.1")
    found = [world.ask(f"{service}.service.consul").answers[0].ttl for service in ("web", "west", "api-x", "other")]
    assert found == [5, 6, 7, 8]
    assert world.ask("here.node.consul").answers[0].ttl == 9


def test_instances_are_shuffled_by_whom_asks(world):
    world.ask(WEB)
    assert world.shuffled == [["n2/w2", "w1", "w3"]]
    world.shuffle = random.Random(3).shuffle
    orders = {tuple(world.lines(WEB)) for _ in range(40)}
    assert len(orders) == 6


def test_answers_depend_on_what_they_say(world):
    interests = world.resolve(WEB, "SRV").interests
    assert interests is not None
    assert ServiceKey("default", "default", "web") in interests
    # An answer about a service shows the address of its node.
    world.node("n2", "127.0.1.22")
    assert ServiceKey("default", "default", "web") in world.last.services


class Queries:
    def __init__(self, world: DnsWorld) -> None:
        self.world = world

    def execute(self, reader, name):
        if name == "broken":
            raise Conflict("cannot")
        instances = reader.instances(ServiceKey("default", "default", "web"))
        return {"q": Found(instances, 15), "none": Found([]), "plain": Found(instances)}.get(name)


def test_prepared_queries(world):
    world = DnsWorld(queries=Queries(world), service_ttls_s={"web": 4})
    world.register("web", "w1", "127.0.2.1")
    assert world.lines("q.query.consul") == ["q.query.consul. 15 A 127.0.2.1"]
    assert world.lines("_plain._tcp.query.consul", "SRV")[0].split()[1] == "4"
    assert missing(world.ask("none.query.consul"))
    assert missing(world.ask("unknown.query.consul"))
    assert world.ask("broken.query.consul").rcode == SERVFAIL


def test_what_the_token_may_not_see_is_not_there(world):
    world.actor = Actor(restricted=True)
    assert missing(world.ask(WEB))
    assert missing(world.ask("n1.node.consul"))
    assert missing(world.ask(arpa("127.0.2.3"), "PTR"))


def test_edns_is_answered(world):
    subnet = Subnet(1, 24, 24, b"\x7f\0\0")
    message = world.ask(WEB, edns=Edns(1400, 0, True, subnet))
    assert message.edns == Edns(1400, 0, True, subnet._replace(scope=0))
    assert world.ask(WEB).edns is None


def test_a_domain_that_is_no_name_cannot_be_served():
    with pytest.raises(Malformed):
        DnsWorld(domain="a..b")
