"""DNS of a real process: what registers over HTTP is found at once; real clients' packets; metrics."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.request

import pytest

from townhall.wire.dns import Edns, Message, Question, parse_message, render
from townhall.wire.dns_names import name_of, text_of
from townhall.wire.dns_records import SRV, A
from townhall_process import TownhallProcess, running, townhall

DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def registry():
    with running("--dev", "--consul", "0", "--dns", "0", "--name", "here", "--names-service-ttls", "web=5") as process:
        yield process


def where(process: TownhallProcess) -> tuple[str, int]:
    host, _, port = str(process.ready["listen"]["dns"]).rpartition(":")
    return host, int(port)


def ask(process: TownhallProcess, name: str, type_: int = A, *, tcp: bool = False, edns: int = 0) -> Message:
    question = Question(name_of(name), type_)
    data = render(Message(id=5, question=question, response=False, edns=Edns(edns) if edns else None))
    if not tcp:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(DEADLINE_S)
            client.sendto(data, where(process))
            return parse_message(client.recv(65_535))
    with socket.create_connection(where(process), DEADLINE_S) as stream, stream.makefile("rb") as file:
        stream.sendall(len(data).to_bytes(2, "big") + data)
        return parse_message(file.read(int.from_bytes(file.read(2), "big")))


def put(process: TownhallProcess, path: str, body: object) -> None:
    url = f"http://{process.ready['listen']['consul']}{path}"
    with urllib.request.urlopen(
        urllib.request.Request(url, json.dumps(body).encode(), method="PUT"), timeout=DEADLINE_S
    ) as answer:
        assert answer.status == 200


def addresses(message: Message) -> set[str]:
    return {".".join(map(str, record.data)) for record in message.answers}  # type: ignore[arg-type]


def test_the_ready_line_names_one_port_for_both_transports(registry):
    for tcp in (False, True):
        assert addresses(ask(registry, "here.node.consul", tcp=tcp)) == {"127.0.0.1"}


def test_what_registers_natively_or_as_consul_does_is_found_at_once(registry):
    assert ask(registry, "web.service.consul").rcode == 3
    assert townhall("register", "web", "127.0.7.1:8080", "--tag", "v2", "--once", server=registry.url).returncode == 0
    assert addresses(ask(registry, "v2.web.service.consul")) == {"127.0.7.1"}
    put(registry, "/v1/agent/service/register", {"Name": "web", "ID": "w2", "Address": "127.0.7.2", "Port": 8081})
    message = ask(registry, "web.service.consul", SRV)
    assert {(r.ttl, r.data.port, text_of(r.data.target)) for r in message.answers} == {
        (5, 8080, "7f000701.addr.dc1.consul."), (5, 8081, "7f000702.addr.dc1.consul."),
    }  # fmt: skip
    put(registry, "/v1/agent/service/deregister/w2", None)
    assert addresses(ask(registry, "web.service.consul")) == {"127.0.7.1"}


def test_external_nodes_checks_and_prepared_queries(registry):
    for n, status in ((1, "passing"), (2, "critical")):
        body = {
            "Node": f"ext-{n}", "Address": f"127.0.8.{n}", "NodeMeta": {"rack": "r1"},
            "Service": {"Service": "db", "ID": f"db-{n}", "Port": 5432, "Weights": {"Passing": 9, "Warning": 2}},
            "Check": {"CheckID": f"c{n}", "Name": "c", "Status": status, "ServiceID": f"db-{n}"},
        }  # fmt: skip
        put(registry, "/v1/catalog/register", body)
    message = ask(registry, "db.service.consul", SRV)
    assert [(r.data.weight, text_of(r.data.target)) for r in message.answers] == [(9, "ext-1.node.dc1.consul.")]
    assert len(message.additional) == 2
    pointer = ask(registry, ".".join(["1", "8", "0", "127", "in-addr.arpa"]), 12)
    assert text_of(pointer.answers[0].data.name) == "ext-1.node.dc1.consul."
    url = f"http://{registry.ready['listen']['consul']}/v1/query"
    query = {"Name": "dbq", "Service": {"Service": "db"}, "DNS": {"TTL": "15s"}}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(query).encode()), timeout=DEADLINE_S):
        found = ask(registry, "dbq.query.consul")
    assert addresses(found) == {"127.0.8.1"}
    assert found.answers[0].ttl == 15


def test_large_services_are_cut_over_udp_and_whole_over_tcp(registry):
    for n in range(60):
        body = {"Name": "big", "ID": f"b{n}", "Address": f"127.0.9.{n}", "Port": 80}
        put(registry, "/v1/agent/service/register", body)
    assert (len(ask(registry, "big.service.consul").answers), ask(registry, "big.service.consul").truncated) == (
        3,
        True,
    )
    assert len(ask(registry, "big.service.consul", SRV, tcp=True).answers) == 60
    some = ask(registry, "big.service.consul", SRV, edns=1232)
    assert some.truncated
    assert 3 < len(some.answers) < 60


@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed")
@pytest.mark.parametrize("options", [["+noedns"], ["+tcp"], ["+bufsize=1232", "+subnet=127.0.0.0/24"], []])
def test_dig_is_satisfied(registry, options):
    host, port = where(registry)
    done = subprocess.run(
        ["dig", f"@{host}", "-p", str(port), "here.node.consul", "A", "+norecurse", "+time=5", "+tries=2", *options],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "status: NOERROR" in done.stdout
    assert "127.0.0.1" in done.stdout
    assert "WARNING" not in done.stdout.upper().replace("WARNING: RECURSION", "")


def test_metrics_count_queries(registry):
    ask(registry, "consul", 6)
    with urllib.request.urlopen(f"{registry.url}/metrics", timeout=DEADLINE_S) as answer:
        lines = answer.read().decode().splitlines()
    counted = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("townhall_dns")
    }
    assert counted['townhall_dns_queries_total{transport="udp"}'] >= 1
    assert counted["townhall_dns_errors_total"] == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--names-recursors", "no.address"], "--names-recursors"),
        (["--names-service-ttls", "web"], "--names-service-ttls"),
        (["--names-domain", "a..b"], "--names-domain"),
        (["--names-token-file", "missing"], "--names-token-file"),
    ],
)
def test_bad_settings_are_told_by_name(tmp_path, options, named):
    done = townhall("up", "--data", str(tmp_path), "--native", "0", "--dns", "0", *options)
    assert done.returncode in (1, 2)
    assert named in done.stderr
