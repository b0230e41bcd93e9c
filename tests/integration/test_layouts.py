"""One catalogue through four doors: keys in etcd's naming form are instances, and instances are such keys."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from townhall.wire.dns import Message, Question, parse_message, render
from townhall.wire.dns_names import name_of
from townhall.wire.dns_records import SRV
from townhall_process import TownhallProcess, running, until

DEADLINE_S = 120.0


@pytest.fixture(scope="module")
def registry() -> Any:
    options = ("--consul", "0", "--dns", "0", "--etcd", "0", "--layouts-etcd-export", "all/")
    with running("--dev", *options) as process:
        yield process


def call(process: TownhallProcess, face: str, method: str, path: str, body: Any = None) -> Any:
    host, _, port = str(process.ready["listen"][face]).rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=DEADLINE_S)
    try:
        connection.request(method, path, None if body is None else json.dumps(body).encode())
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status < 300, (answer.status, content)
        return json.loads(content) if content else None
    finally:
        connection.close()


def b64(value: bytes | str) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()


def etcd(process: TownhallProcess, path: str, **body: Any) -> Any:
    return call(process, "etcd", "POST", f"/v3{path}", body)


def keys(process: TownhallProcess, prefix: str) -> dict[str, Any]:
    """What grpc-go's resolver would list: the keys of a prefix, serializable."""
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    found = etcd(process, "/kv/range", key=b64(prefix), range_end=b64(end), serializable=True)
    return {
        base64.b64decode(kv["key"]).decode(): json.loads(base64.b64decode(kv["value"])) for kv in found.get("kvs", ())
    }


def add_endpoint(process: TownhallProcess, key: str, address: str, lease: str = "0") -> None:
    """As ``endpoints.Manager.AddEndpoint``: a transaction without compares."""
    value = json.dumps({"Op": 0, "Addr": address, "Metadata": None})
    put = {"request_put": {"key": b64(key), "value": b64(value), "lease": lease}}
    assert etcd(process, "/kv/txn", success=[put])["succeeded"]


def native(process: TownhallProcess, service: str) -> list[str]:
    with urllib.request.urlopen(
        f"{process.url}/api/v1/services/{service}/instances?healthy=true", timeout=DEADLINE_S
    ) as answer:
        return [instance["id"] for instance in json.load(answer)["instances"]]


def consul(process: TownhallProcess, service: str) -> list[int]:
    rows = call(process, "consul", "GET", f"/v1/health/service/{service}?passing=true")
    return [row["Service"]["Port"] for row in rows]


def dns(process: TownhallProcess, service: str) -> Message:
    host, _, port = str(process.ready["listen"]["dns"]).rpartition(":")
    data = render(Message(id=5, question=Question(name_of(f"{service}.service.consul"), SRV), response=False))
    import socket

    with socket.create_connection((host, int(port)), DEADLINE_S) as stream, stream.makefile("rb") as file:
        stream.sendall(len(data).to_bytes(2, "big") + data)
        return parse_message(file.read(int.from_bytes(file.read(2), "big")))


def everywhere(process: TownhallProcess, service: str) -> tuple[int, int, int, int]:
    """How many instances native, Consul, DNS and the exported keys show."""
    return (
        len(native(process, service)),
        len(consul(process, service)),
        len(dns(process, service).answers),
        len(keys(process, f"all/{service}/")),
    )


def test_what_consul_registers_is_a_key_and_its_end_deletes_it(registry: TownhallProcess) -> None:
    body = {
        "Name": "pay",
        "ID": "pay-1",
        "Address": "127.0.0.1",
        "Port": 8081,
        "Check": {"TTL": "60s", "Status": "passing"},
    }
    call(registry, "consul", "PUT", "/v1/agent/service/register", body)
    assert list(keys(registry, "all/pay/")) == ["all/pay/pay-1"]
    assert keys(registry, "all/pay/")["all/pay/pay-1"]["Addr"] == "127.0.0.1:8081"
    # A failing check takes the key away, a passing one brings it back.
    call(registry, "consul", "PUT", "/v1/agent/check/fail/service:pay-1")
    assert keys(registry, "all/pay/") == {}
    call(registry, "consul", "PUT", "/v1/agent/check/pass/service:pay-1")
    assert len(keys(registry, "all/pay/")) == 1
    call(registry, "consul", "PUT", "/v1/agent/service/deregister/pay-1")
    assert everywhere(registry, "pay") == (0, 0, 0, 0)


def test_what_dies_natively_goes_from_the_keys(registry: TownhallProcess) -> None:
    call(
        registry,
        "native",
        "POST",
        "/api/v1/instances",
        {"service": "cart", "id": "c1", "address": "127.0.0.1", "port": 9, "ttl_ms": 300},
    )
    # It may be over before it is looked for; what counts is that it goes.
    until(lambda: keys(registry, "all/cart/") == {}, what="the key of a dead instance goes")


def test_an_endpoint_on_a_lease_is_an_instance_everywhere_until_the_lease_ends(registry: TownhallProcess) -> None:
    lease = etcd(registry, "/lease/grant", TTL="60")["ID"]
    add_endpoint(registry, "service/stock/127.0.0.1:7001", "127.0.0.1:7001", lease)
    add_endpoint(registry, "service/stock/127.0.0.1:7002", "127.0.0.1:7002")
    assert native(registry, "stock") == ["etcd:service/stock/127.0.0.1:7001", "etcd:service/stock/127.0.0.1:7002"]
    assert everywhere(registry, "stock") == (2, 2, 2, 2)
    etcd(registry, "/lease/revoke", ID=lease)
    assert consul(registry, "stock") == [7002]
    assert list(keys(registry, "service/stock/")) == ["service/stock/127.0.0.1:7002"]
    etcd(registry, "/kv/deleterange", key=b64("service/stock/127.0.0.1:7002"))
    assert everywhere(registry, "stock") == (0, 0, 0, 0)


def test_a_lease_that_nobody_keeps_alive_takes_both(registry: TownhallProcess) -> None:
    lease = etcd(registry, "/lease/grant", TTL="1")["ID"]
    add_endpoint(registry, "service/mail/1", "127.0.0.1:7003", lease)
    until(
        lambda: everywhere(registry, "mail") == (0, 0, 0, 0) and keys(registry, "service/mail/") == {}, what="both go"
    )


def test_deregistering_it_elsewhere_deletes_the_key(registry: TownhallProcess) -> None:
    add_endpoint(registry, "service/rate/1", "127.0.0.1:7004")
    call(
        registry,
        "native",
        "POST",
        "/api/v1/deregister",
        {"instances": [{"service": "rate", "id": "etcd:service/rate/1"}]},
    )
    assert keys(registry, "service/rate/") == {}


def test_ties_outlive_a_restart(start: Callable[..., TownhallProcess], tmp_path: Any) -> None:
    options = ("--data", str(tmp_path), "--etcd", "0", "--consul", "0", "--layouts-etcd-export", "all/")
    first = start(*options)
    add_endpoint(first, "service/web/1", "127.0.0.1:7005")
    before = keys(first, "all/web/")
    assert len(before) == 1
    first.close()
    again = start(*options)
    assert keys(again, "all/web/") == before
    assert consul(again, "web") == [7005]
    again.close()
    untied = start(*options[:-2], "--layouts-etcd-import", "")
    assert keys(untied, "all/web/") == {}
    assert consul(untied, "web") == []
    assert list(keys(untied, "service/web/")) == ["service/web/1"]
