"""What names ask for."""

from __future__ import annotations

import pytest
from dns_world import arpa

from townhall.face.dns import names
from townhall.face.dns.names import EMPTY, FOREIGN, UNKNOWN, Address, NodeName, QueryName, Reverse, ServiceName, Zones
from townhall.wire.dns_records import SRV, A


def read(text: str, type_: int = A) -> names.Kind:
    return names.read([part.encode() for part in text.split(".") if part], type_=type_, datacenter="DC1")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("web.service", ServiceName("web")),
        ("web.service.dc1", ServiceName("web")),
        ("web.service.dc1.dc", ServiceName("web")),
        ("v1.web.service", ServiceName("web", "v1", "v1.web")),
        ("a.b.web.service", ServiceName("web", "a.b", "a.b.web")),
        ("_web._v1.service", ServiceName("web", "v1")),
        ("_web._tcp.service", ServiceName("web")),
        ("n1.node", NodeName("n1")),
        ("n1.example.node.dc1", NodeName("n1.example")),
        ("q.query", QueryName("q")),
        ("_q._tcp.query", QueryName("q")),
        ("a.b.query", QueryName("a.b")),
        ("7f000001.addr", Address(b"\x7f\0\0\1")),
        ("0" * 31 + "1.addr.dc1", Address(bytes(15) + b"\1")),
    ],
)
def test_names_are_read_from_the_right(text, kind):
    assert read(text) == kind


@pytest.mark.parametrize("text", ["", "service", "node.dc1", "dc1", "dc", "dc1.dc", "_tcp.service", "addr", "query"])
def test_names_above_others_exist_but_are_empty(text):
    assert read(text) is EMPTY


@pytest.mark.parametrize(
    "text",
    ["web.service.dc9", "web.service.dc1.peer", "web", "x.bogus", "zz.addr", "7f00000g.addr", "a.7f000001.addr",
     "web.connect", "web.virtual", "web.ingress", "web.service.x.dc1.dc"],
)  # fmt: skip
def test_other_names_cannot_exist(text):
    assert read(text) is UNKNOWN


def test_srv_names_need_no_word_service():
    assert read("_web._tcp", SRV) == ServiceName("web")
    assert read("_web._v1.dc1", SRV) == ServiceName("web", "v1")
    assert read("_web._tcp", A) is UNKNOWN
    assert read("_web._tcp.dc9", SRV) is UNKNOWN


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (arpa("127.0.2.1"), Reverse(b"\x7f\0\2\1")),
        ("0.127.in-addr.arpa", EMPTY),
        ("in-addr.arpa", EMPTY),
        (arpa("127.0.0.256"), UNKNOWN),
        ("1." + arpa("127.0.2.1"), UNKNOWN),
        ("x.0.0.127.in-addr.arpa", UNKNOWN),
        ("1." + "0." * 31 + "ip6.arpa", Reverse(bytes(15) + b"\1")),
        ("8.b.d.0.ip6.arpa", EMPTY),
        ("g.ip6.arpa", UNKNOWN),
        ("10.ip6.arpa", UNKNOWN),
        ("example.test", FOREIGN),
        ("arpa", FOREIGN),
    ],
)
def test_reverse_names(text, kind):
    assert names.read_reverse([part.encode() for part in text.split(".")]) == kind


def test_both_domains_are_ours():
    zones = Zones("Consul.", "my.alt")
    assert zones.split([b"web", b"consul"]) == (0, [b"web"])
    assert zones.split([b"web", b"my", b"alt"]) == (1, [b"web"])
    assert zones.split([b"consul"]) == (0, [])
    assert zones.split([b"alt"]) is None
