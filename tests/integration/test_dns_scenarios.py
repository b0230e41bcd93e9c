"""DNS of a real process, name by name: every kind of name and answer that Consul's users rely on, and a recursor."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import urllib.request
from collections.abc import Iterator

import pytest

from townhall.wire.dns import Edns, Message, Question, Subnet, parse_message, render
from townhall.wire.dns_names import name_of, text_of
from townhall.wire.dns_records import AAAA, CNAME, NS, PTR, SOA, SRV, TXT, A, Record
from townhall_process import TownhallProcess, running

DEADLINE_S = 120.0
NOERROR, NXDOMAIN, NOTIMP, REFUSED = 0, 3, 4, 5
AXFR = 252


class Recursor:
    """A name server of the test's own: knows two names, and says that the rest do not exist."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.where = "{}:{}".format(*self._socket.getsockname())
        self.asked: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        known = {"outside.example.": bytes((127, 0, 6, 6)), "db.example.": bytes((127, 0, 6, 7))}
        while True:
            try:
                data, peer = self._socket.recvfrom(65_535)
            except OSError:
                return
            query = parse_message(data)
            assert query.question is not None
            name = text_of(query.question.name).lower()
            self.asked.append(name)
            address = known.get(name) if query.question.type == A else None
            answers = (Record(query.question.name, A, 30, address),) if address else ()
            rcode = NOERROR if name in known else NXDOMAIN
            reply = Message(
                id=query.id, question=query.question, recursion_available=True, rcode=rcode, answers=answers
            )
            self._socket.sendto(render(reply), peer)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def recursor() -> Iterator[Recursor]:
    found = Recursor()
    yield found
    found.close()


@pytest.fixture(scope="module")
def registry(recursor: Recursor) -> Iterator[TownhallProcess]:
    options = [
        "--names-alt-domain",
        "here.test",
        "--names-node-ttl-s",
        "7",
        "--names-service-ttls",
        "api*=3,api-x=4,*=1",
    ]
    options += ["--names-recursors", recursor.where, "--names-idle-timeout-ms", "1000"]
    with running("--dev", "--consul", "0", "--dns", "[::1]:0", "--name", "here", *options) as process:
        register(process, "n4", "127.0.8.4", "web", 8080, tags=["v2"], meta={"rack": "r1", "rfc1035-note": "bare"})
        register(process, "n6", "::8", "web6", 8081)
        register(process, "alias", "db.example", "named", 5432)
        yield process


def register(process: TownhallProcess, node: str, address: str, service: str, port: int, **more: object) -> None:
    status = more.get("status", "passing")
    body = {
        "Node": node, "Address": address, "NodeMeta": more.get("meta", {}),
        "Service": {"Service": service, "ID": service, "Port": port, "Tags": more.get("tags", []), "Weights": {"Passing": 9, "Warning": 2}},
        "Check": {"CheckID": f"c-{service}", "Name": "c", "Status": status, "ServiceID": service},
    }  # fmt: skip
    put(process, "/v1/catalog/register", body)


def put(process: TownhallProcess, path: str, body: object, method: str = "PUT") -> None:
    url = f"http://{process.ready['listen']['consul']}{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), method=method)
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
        assert answer.status == 200


def where(process: TownhallProcess) -> tuple[str, int]:
    host, _, port = str(process.ready["listen"]["dns"]).rpartition(":")
    return host.strip("[]"), int(port)


def packet(name: str, type_: int, *, id_: int = 5, edns: Edns | None = None, recursion: bool = False) -> bytes:
    question = Question(name_of(name), type_)
    return render(Message(id=id_, question=question, response=False, edns=edns, recursion_desired=recursion))


def ask(process: TownhallProcess, name: str, type_: int = A, **options: object) -> Message:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(DEADLINE_S)
        client.sendto(packet(name, type_, **options), where(process))  # type: ignore[arg-type]
        return parse_message(client.recv(65_535))


def address(record: Record) -> str:
    family = socket.AF_INET if record.type == A else socket.AF_INET6
    return socket.inet_ntop(family, record.data)  # type: ignore[arg-type]


def shown(records: tuple[Record, ...]) -> list[tuple[str, int]]:
    return [(address(one), one.type) for one in records if one.type in (A, AAAA)]


@pytest.mark.parametrize(
    "name",
    [
        "web.service.consul", "v2.web.service.consul", "WEB.Service.CONSUL", "web.service.dc1.consul",
        "web.service.dc1.dc.consul", "_web._v2.service.consul", "_web._tcp.service.consul", "web.service.here.test",
        "n4.node.consul", "n4.node.dc1.consul", "7f000804.addr.consul", "7f000804.addr.dc1.consul",
    ],
)  # fmt: skip
def test_every_kind_of_name_leads_to_the_address(registry, name):
    message = ask(registry, name)
    assert (message.rcode, message.authoritative) == (NOERROR, True)
    assert shown(message.answers) == [("127.0.8.4", A)]


@pytest.mark.parametrize(
    "name",
    [
        "nobody.service.consul", "v9.web.service.consul", "web.service.dc9.consul", "nobody.node.consul", "nobody.query.consul",
        "nobody.here.test", "zz.addr.consul", "web.kind.consul",
    ],
)  # fmt: skip
def test_what_is_not_there_does_not_exist_and_may_not_be_remembered(registry, name):
    message = ask(registry, name)
    assert message.rcode == NXDOMAIN
    (soa,) = message.authority
    assert (soa.type, soa.data.minimum) == (SOA, 0)


def test_a_service_without_healthy_instances_does_not_exist(registry):
    register(registry, "n5", "127.0.8.5", "ill", 80, status="critical")
    assert ask(registry, "ill.service.consul").rcode == NXDOMAIN
    assert ask(registry, "n5.node.consul").rcode == NOERROR


def test_a_warning_is_given_with_its_own_weight(registry):
    register(registry, "n7", "127.0.8.7", "warned", 80, status="warning")
    (record,) = ask(registry, "warned.service.consul", SRV).answers
    assert (record.data.priority, record.data.weight, record.data.port) == (1, 2, 80)


def test_a_name_without_a_record_of_the_type_is_there(registry):
    message = ask(registry, "web.service.consul", AAAA)
    assert (message.rcode, message.answers, message.authority[0].type) == (NOERROR, (), SOA)
    message = ask(registry, "consul")
    assert (message.rcode, message.answers) == (NOERROR, ())


def test_srv_leads_to_the_node_with_its_address_and_metadata(registry):
    for name in ("web.service.consul", "_web._tcp.consul", "_web._v2.service.consul"):
        message = ask(registry, name, SRV)
        (record,) = message.answers
        assert (record.data.weight, record.data.port, text_of(record.data.target)) == (9, 8080, "n4.node.dc1.consul.")
        assert ("127.0.8.4", A) in shown(message.additional)
        assert any(one.type == TXT for one in message.additional)


def test_ipv6_addresses_names_and_listeners(registry):
    assert where(registry)[0] == "::1"
    assert shown(ask(registry, "web6.service.consul", AAAA).answers) == [("::8", AAAA)]
    assert shown(ask(registry, f"{'0' * 31}8.addr.consul", AAAA).answers) == [("::8", AAAA)]
    reverse = ".".join(reversed(f"{'0' * 31}8")) + ".ip6.arpa"
    (record,) = ask(registry, reverse, PTR).answers
    assert text_of(record.data.name) == "n6.node.dc1.consul."


def test_reverse_of_ipv4(registry):
    (record,) = ask(registry, ".".join(["4", "8", "0", "127", "in-addr.arpa"]), PTR).answers
    assert text_of(record.data.name) == "n4.node.dc1.consul."


def test_metadata_of_nodes_is_text(registry):
    texts = [bytes(one.data)[1:] for one in ask(registry, "n4.node.consul", TXT).answers]
    assert sorted(texts) == [b"bare", b"rack=r1"]


def test_the_domain_itself(registry):
    (soa,) = ask(registry, "consul", SOA).answers
    assert (text_of(soa.data.primary), soa.data.refresh, soa.data.retry, soa.data.expire) == (
        "ns.consul.",
        3600,
        600,
        86400,
    )
    servers = ask(registry, "consul", NS)
    assert [text_of(one.data.name) for one in servers.answers] == ["here.node.dc1.consul."]
    assert servers.additional, "with the server's address"
    assert ask(registry, "consul", AXFR).rcode == NOTIMP


def test_times_to_live_by_node_exact_name_and_longest_prefix(registry):
    for service in ("api-x", "api-y", "other"):
        register(registry, f"node-{service}", "127.0.8.9", service, 80)
    found = {name: ask(registry, f"{name}.service.consul").answers[0].ttl for name in ("api-x", "api-y", "other")}
    assert found == {"api-x": 4, "api-y": 3, "other": 1}
    assert ask(registry, "n4.node.consul").answers[0].ttl == 7


def test_a_prepared_query_by_both_names(registry):
    put(registry, "/v1/query", {"Name": "webq", "Service": {"Service": "web"}, "DNS": {"TTL": "15s"}}, "POST")
    for name in ("webq.query.consul", "_webq._tcp.query.consul"):
        (record,) = ask(registry, name).answers
        assert (address(record), record.ttl) == ("127.0.8.4", 15)


def test_a_host_name_as_address_is_followed_through_the_recursor(registry, recursor):
    message = ask(registry, "named.service.consul", recursion=True)
    assert [one.type for one in message.answers][:1] == [CNAME]
    assert ("127.0.6.7", A) in shown(message.answers)
    assert "db.example." in recursor.asked


def test_names_of_others_go_to_the_recursor(registry, recursor):
    message = ask(registry, "outside.example", recursion=True)
    assert (message.recursion_available, message.authoritative) == (True, False)
    assert shown(message.answers) == [("127.0.6.6", A)]
    assert ask(registry, "nothing.example", recursion=True).rcode == NXDOMAIN


def test_an_echo_of_edns_and_the_clients_subnet(registry):
    subnet = Subnet(1, 24, 0, bytes((127, 0, 0)))
    message = ask(registry, "web.service.consul", edns=Edns(1232, subnet=subnet))
    assert message.edns is not None
    assert message.edns.subnet is not None
    assert (message.edns.subnet.source, message.edns.subnet.scope) == (24, 0)


def test_many_questions_over_one_connection_and_then_silence(registry):
    host, port = where(registry)
    with socket.create_connection((host, port), DEADLINE_S) as stream, stream.makefile("rb") as file:
        questions = [packet("web.service.consul", A, id_=number) for number in range(20)]
        stream.sendall(b"".join(len(one).to_bytes(2, "big") + one for one in questions))
        answers = [parse_message(file.read(int.from_bytes(file.read(2), "big"))) for _ in questions]
        assert sorted(one.id for one in answers) == list(range(20))
        assert file.read(1) == b"", "an idle connection is closed"


def test_without_a_recursor_names_of_others_are_refused():
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(running("--dev", "--dns", "[::1]:0", "--names-rate-local", "--names-rate", "5"))
        assert ask(process, "outside.example", recursion=True).rcode == REFUSED
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
            client.settimeout(DEADLINE_S)
            for number in range(40):
                client.sendto(packet("consul", SOA, id_=number), where(process))
            first = parse_message(client.recv(65_535))
            assert first.rcode == NOERROR
            found = [first]
            client.settimeout(1)
            with contextlib.suppress(TimeoutError):
                while True:
                    found.append(parse_message(client.recv(65_535)))
        assert len(found) < 40, "beyond the rate some are dropped"
        assert any(one.truncated for one in found), "and some are told to come by TCP"
