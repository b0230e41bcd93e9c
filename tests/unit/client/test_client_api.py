"""Every call asks what the native API says and gives what it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fake_registry import Asked, FakeRegistry, Refusal

from townhall.client.api import DEFAULT_URL, Registry, service_key, watch_name
from townhall.client.records import Registered, Registration
from townhall.model.errors import Fenced, InvalidField, LeaseNotFound, NotFound, PeerMisbehaved
from townhall.model.instance import ServiceKey

ONE = {"id": "a/b", "service": "user", "address": "127.0.0.1", "port": 1}
HERE = "/services/user"
THAT = "/services/user/instances/a%2Fb"


def asked_for(call: Callable[[Registry], Awaitable[Any]], answers: dict[tuple[str, str], Any]) -> tuple[Any, Asked]:
    async def main() -> tuple[Any, Asked]:
        async with FakeRegistry(canned=answers) as fake, Registry(fake.url) as registry:
            result = await call(registry)
            return result, fake.asked[-1]

    return asyncio.run(main())


Case = tuple[Callable[[Registry], Awaitable[Any]], str, str, dict[str, str], Any, Any]

CASES: dict[str, Case] = {
    "services": (
        lambda r: r.services("us", after=3, wait_ms=500),
        "GET", "/services", {"prefix": "us", "namespace": "default", "after": "3", "wait": "500"}, None,
        {"revision": 4, "services": [{"name": "user", "instances": 2, "callable": 1}]},
    ),
    "service": (lambda r: r.service("user"), "GET", HERE, {"namespace": "default", "group": "default"}, None, {"name": "user"}),
    "put_service": (
        lambda r: r.put_service("user", settings={"floor": 0.2}), "PUT", HERE, {}, {"settings": {"floor": 0.2}}, {"name": "user"},
    ),
    "delete_service": (lambda r: r.delete_service("n/g/user"), "DELETE", HERE, {"namespace": "n", "group": "g"}, None, None),
    "instances": (
        lambda r: r.instances("user", healthy=True, tags=["a"], meta={"k": "v"}, zone="z", filter="weight > 1", after=0, wait_ms=1),
        "GET", HERE + "/instances",
        {"healthy": "1", "tag": "a", "meta": "k:v", "zone": "z", "filter": "weight > 1", "after": "0", "wait": "1"}, None,
        {"service": "user", "revision": 9, "instances": [ONE]},
    ),
    "subscribers": (lambda r: r.subscribers("user"), "GET", HERE + "/subscribers", {}, None, {"revision": 1, "subscribers": []}),
    "instance": (lambda r: r.instance("user", "a/b"), "GET", THAT, {}, None, ONE),
    "patch": (
        lambda r: r.patch("user", "a/b", weight=2.0, metadata={"k": None}, incarnation=4),
        "PATCH", THAT, {}, {"weight": 2.0, "metadata": {"k": None}, "incarnation": 4}, ONE,
    ),
    "deregister": (
        lambda r: r.deregister("user", "a/b", incarnation=4, claim="c"), "DELETE", THAT, {"incarnation": "4", "claim": "c"}, None, None,
    ),
    "maintenance": (lambda r: r.maintenance("user", "a/b", "x"), "PUT", THAT + "/maintenance", {}, {"reason": "x"}, None),
    "maintenance off": (lambda r: r.maintenance("user", "a/b", None), "DELETE", THAT + "/maintenance", {}, None, None),
    "health": (
        lambda r: r.health("user", "a/b", "critical", output="x", incarnation=4), "PUT", THAT + "/health", {},
        {"status": "critical", "output": "x", "incarnation": 4}, ONE,
    ),
    "forget_health": (lambda r: r.forget_health("user", "a/b"), "DELETE", THAT + "/health", {}, None, None),
    "override": (
        lambda r: r.override("user", "a/b", "down", reason="x"), "PUT", THAT + "/override", {}, {"verdict": "down", "reason": "x"}, None,
    ),
    "override off": (lambda r: r.override("user", "a/b", None), "DELETE", THAT + "/override", {}, None, None),
    "drain": (
        lambda r: r.drain("user", "a/b", deadline_ms=5), "POST", THAT + "/drain", {}, {"deadline_ms": 5}, {"service": "user", "id": "a"},
    ),
    "drain_status": (
        lambda r: r.drain_status("user", "a/b", wait_ms=7), "GET", THAT + "/drain", {"wait": "7"}, None, {"service": "user", "id": "a"},
    ),
    "cancel_drain": (lambda r: r.cancel_drain("user", "a/b"), "DELETE", THAT + "/drain", {}, None, None),
    "report": (
        lambda r: r.report("me", [{"service": "user", "id": "a", "kind": "reset", "count": 1}]), "POST", "/reports", {},
        {"reporter": "me", "failures": [{"service": "user", "id": "a", "kind": "reset", "count": 1}]}, {"accepted": 1, "unknown": []},
    ),
    "renew": (lambda r: r.renew(["1", "2"]), "POST", "/renew", {}, {"leases": ["1", "2"]}, {"renewed": 1, "unknown": ["2"]}),
    "acknowledge": (
        lambda r: r.acknowledge("s 1", {ServiceKey("n", "g", "user"): 7}), "POST", "/watch/s%201/ack", {},
        {"services": {"n/g/user": 7}}, None,
    ),
    "status": (lambda r: r.status(), "GET", "/status", {}, None, {"position": 3}),
    "version": (lambda r: r.version(), "GET", "/version", {}, None, {"version": "1"}),
    "metrics": (lambda r: r.metrics(), "GET", "/metrics", {}, None, "text"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_call_asks_for_what_it_should(name: str) -> None:
    call, method, path, query, body, answer = CASES[name]
    result, asked = asked_for(call, {(method, path): answer})
    assert (asked.method, asked.path) == (method, path)
    assert query.items() <= dict(asked.query).items()
    assert (json.loads(asked.body) if asked.body else None) == body
    if answer is not None:
        assert result is not None


def test_registering_one_and_many() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            good = Registration(service="user", address="127.0.0.1", port=1, id="a", claim="c", ttl_ms=500)
            bad = Registration(service="user", address="127.0.0.1", port=99_999, id="b")
            first = await registry.register(good)
            assert (first.instance.id, first.ttl_ms, first.incarnation) == ("a", 500, 1)
            results = await registry.register_batch([bad, good])
            assert isinstance(results[0], InvalidField)
            assert isinstance(results[1], Registered)
            removed = await registry.deregister_batch(
                [
                    {"service": "user", "id": "a", "claim": "other"},
                    {"service": "user", "id": "a", "claim": "c"},
                    {"service": "x", "id": "y"},
                ]
            )
            assert [type(one) for one in removed] == [Fenced, type(None), NotFound]
            with pytest.raises(LeaseNotFound):
                await registry.register(
                    Registration(service="user", address="127.0.0.1", port=1, id="a", claim="c", lease="77")
                )

    asyncio.run(main())


def test_the_position_comes_with_the_instances() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, Registry(fake.url) as registry:
            await fake.put("user", "a")
            await fake.put("other", "b")
            answer, position = await registry.instances_at("user")
            assert (answer.revision, position) == (1, 2)
            assert [one.id for one in answer.instances] == ["a"]

    asyncio.run(main())


def test_a_batch_answer_of_another_length_is_no_answer() -> None:
    for results in ([], "x", [1], [{"instance": 5}]):
        with pytest.raises(PeerMisbehaved):
            asked_for(
                lambda r: r.register_batch([Registration(service="s", address="x")]),
                {("POST", "/instances/batch"): {"results": results}},
            )


def test_ready_or_not() -> None:
    assert asked_for(lambda r: r.ready(), {("GET", "/readyz"): "ok"})[0] is True
    assert asked_for(lambda r: r.ready(), {("GET", "/readyz"): Refusal(503, "unavailable")})[0] is False
    with pytest.raises(NotFound):
        asked_for(lambda r: r.ready(), {})


def test_a_backup_comes_in_pieces() -> None:
    async def collect(registry: Registry) -> bytes:
        return b"".join([piece async for piece in registry.backup()])

    assert asked_for(collect, {("GET", "/backup"): "bytes"})[0] == b'"bytes"'


def test_names_of_services() -> None:
    key = ServiceKey("n", "g", "s")
    assert service_key("s", namespace="n") == ServiceKey("n", "default", "s")
    assert service_key("n/g/s") == key
    assert service_key(key) is key
    assert watch_name(key) == "n/g/s"
    assert watch_name(ServiceKey("default", "default", "s")) == "s"
    assert Registry().transport.preferred == Registry(DEFAULT_URL).transport.preferred
