from __future__ import annotations

import asyncio
import errno
import gc
import io
import json
import socket
from types import SimpleNamespace

import pytest

from townhall.ops.assembly import Assembled, CouldNotStart, assemble, http_options, rules_of
from townhall.ops.config import load
from townhall.ops.lifetime import Life, ready_line, waits_for_bootstrap, warnings_of
from townhall.ops.listen import Endpoint, why_not


@pytest.fixture(autouse=True)
def collector():
    """Assembling a registry tunes the garbage collector for a long life; tests take that back."""
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


def life(options: dict[str, object], data=None) -> Life:
    effective = load(options, {})
    return Life(effective=effective, data=data, node="n", environ={}, reload=lambda: effective, out=io.StringIO())


def built(*addresses: Endpoint, access_enabled: bool = False, certificates=None) -> Assembled:
    hub = SimpleNamespace(state=SimpleNamespace(access_enabled=access_enabled))
    listening = {"native" if number == 0 else f"face{number}": where for number, where in enumerate(addresses)}
    return Assembled(hub, addresses=listening, certificates=certificates)  # type: ignore[arg-type]


def test_rules_follow_the_settings():
    options = {
        "lease.ttl_min_ms": "50ms", "lease.ttl_default_ms": "5s", "lease.eviction_grace_ttls": "2", "floor.registry": "0.25",
        "floor.instances_min": "7", "floor.registry_instances_min": "9", "floor.window_ms": "1s", "floor.hold_max_ms": "2s", "capacity.instances_max": "11",
        "capacity.services_max": "12", "capacity.leases_max": "13", "capacity.space_size_max": "100000",
    }  # fmt: skip
    rules = rules_of(load(options, {}).settings)
    assert (rules.lease_ttl_min_ms, rules.lease_ttl_default_ms, rules.eviction_grace_ttls) == (50, 5_000, 2)
    assert (rules.registry_floor, rules.floor_instances_min, rules.floor_window_ms, rules.floor_hold_max_ms) == (
        0.25,
        7,
        1_000,
        2_000,
    )
    assert (rules.instances_count_max, rules.services_count_max, rules.leases_count_max) == (11, 12, 13)
    assert rules.space_size_max == 100_000
    assert rules.registry_floor_instances_min == 9
    assert rules.access_required is False


@pytest.mark.parametrize("options", [{"access.required": True}, {"access.tokens_file": "x"}])
def test_tokens_are_asked_for_when_configured(options):
    assert rules_of(load(options, {}).settings).access_required


def test_http_options_follow_the_settings():
    options = {"http.connections_max": "7", "http.idle_timeout_ms": "9s", "http.parked_per_address_max": "3"}
    found = http_options(load(options, {}).settings)
    assert (found.connections_max, found.idle_timeout_ms, found.parked_per_address_max) == (7, 9_000, 3)


@pytest.mark.parametrize(
    ("error", "needle"),
    [
        (OSError(errno.EADDRINUSE, "x"), "choose another port"),
        (OSError(errno.EACCES, "x"), "above 1023"),
        (OSError(errno.EADDRNOTAVAIL, "x"), "no such address"),
        (socket.gaierror(-2, "x"), "cannot be resolved"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    ],
)
def test_every_reason_says_what_to_do(error, needle):
    assert needle in why_not(error, "native")


def test_a_face_that_nobody_asked_for_by_name_can_be_left_out():
    taken = OSError(errno.EADDRINUSE, "in use")
    assert "--consul off does without" in why_not(taken, "consul")
    assert "off" not in why_not(taken, "native")


def test_assembled_in_memory_it_listens_and_stops():
    async def scenario():
        found = await assemble(load({"native": "0"}, {}), None, node="n")
        where = found.addresses["native"]
        _, writer = await asyncio.open_connection(where.host, where.port)
        writer.close()
        await writer.wait_closed()
        with pytest.raises(CouldNotStart, match=r"--native .* in use"):
            await assemble(load({"native": str(where)}, {}), None, node="n")
        await found.stop(100)
        await found.stop(100)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(where.host, where.port)

    asyncio.run(scenario())


def test_ready_lines():
    text = ready_line(life({"dev": True}), built(Endpoint("127.0.0.1", 7501)))
    assert "native on 127.0.0.1:7501" in text
    assert "nothing is kept" in text
    assert text.endswith("try: curl http://127.0.0.1:7501/api/v1/services")
    assert "\n" not in text
    assert "curl https://" in ready_line(life({}), built(Endpoint("127.0.0.1", 1), certificates=object()))
    found = json.loads(ready_line(life({"ready_json": True}, data="d"), built(Endpoint("::1", 7501))))
    assert found["listen"] == {"native": "[::1]:7501"}
    assert found["data"] == "d"


def test_who_asks_for_tokens_and_has_none_is_told_how_to_make_the_first():
    where = Endpoint("127.0.0.1", 7501)
    asked = life({"access.required": True})
    assert waits_for_bootstrap(asked.effective, built(where))
    assert ready_line(asked, built(where)).endswith("try: townhall token bootstrap --server http://127.0.0.1:7501")
    for options, enabled in (({"access.required": True}, True), ({"access.tokens_file": "x"}, False), ({}, False)):
        assert not waits_for_bootstrap(load(options, {}), built(where, access_enabled=enabled))


@pytest.mark.parametrize(
    ("where", "options", "access", "words"),
    [
        (Endpoint("127.0.0.1", 1), {}, False, None),
        (Endpoint("0.0.0.0", 1), {}, False, "without tokens and without TLS"),
        (Endpoint("0.0.0.0", 1), {}, True, "without TLS"),
        (Endpoint("0.0.0.0", 1), {"tls.cert": "c"}, False, "without tokens"),
        (Endpoint("::", 1), {"tls.cert": "c", "access.required": True}, False, None),
    ],
)
def test_a_listener_that_others_reach_is_warned_of(where, options, access, words):
    found = warnings_of(load(options, {}), built(where, access_enabled=access))
    if words is None:
        assert found == []
    else:
        assert words in found[0]
        assert str(where) in found[0]
