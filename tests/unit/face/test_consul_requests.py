from __future__ import annotations

import pytest
from consul_world import FaceWorld

from townhall.face.consul.requests import ReadOptions, boolean, decode_body, read_options
from townhall.face.consul.site import Site
from townhall.model.errors import Misuse

SITE = Site(node="n1", datacenter="dc1")


def options(query: str, **headers: str) -> ReadOptions:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_options(FaceWorld().request("GET", f"/v1/catalog/services?{query}", headers=named), SITE)


def test_the_common_parameters():
    found = options("index=7&wait=10s&stale&near=n2&filter=x&node-meta=a:b&node-meta=c:d&pretty&hash=h&peer=p")
    assert (found.index, found.wait_ms, found.consistency, found.near, found.filter) == (7, 10_000, "stale", "n2", "x")
    assert found.node_meta == (("a", "b"), ("c", "d"))
    assert found.pretty
    assert found.hash == "h"
    assert found.peer == "p"


def test_waits_are_bounded():
    assert options("index=1").wait_ms == options("index=1&wait=0").wait_ms == 300_000
    assert options("index=1&wait=99h").wait_ms == 600_000
    assert options("index=1&wait=-5s").wait_ms == 0


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("index=abc", "Invalid index"),
        ("index=-1", "Invalid index"),
        ("index=99999999999999999999999", "Invalid index"),
        ("index=1&wait=soon", "Invalid wait time"),
        ("stale&consistent", "Cannot specify ?stale with ?consistent, conflicting semantics."),
        ("cached&consistent", "Cannot specify ?cached with ?consistent, conflicting semantics."),
        ("max_stale=x", 'Invalid max_stale value "x"'),
        ("dc=nowhere", "No path to datacenter"),
        ("datacenter=nowhere&dc=dc1", "No path to datacenter"),
        ("ns=team", 'Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature'),
        ("partition=p", 'Invalid query parameter: "partition" - Partitions are a Consul Enterprise feature'),
        ("sg=x", "sameness groups are not supported in consul CE"),
    ],
)
def test_refusals(query, message):
    with pytest.raises(Misuse) as refused:
        options(query)
    assert refused.value.message == message


def test_cache_control_is_read_only_when_the_cache_is_asked():
    assert options("cached", cache_control="max-age=1,stale-if-error=10").cached
    assert not options("pretty", cache_control="nonsense").cached
    with pytest.raises(Misuse, match="Invalid Cache-Control"):
        options("cached", cache_control="nonsense")


def test_booleans_as_go_reads_them():
    assert (boolean("t"), boolean("0"), boolean("perhaps")) == (True, False, None)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Request decode failed: EOF"),
        (b'{"a":', "Request decode failed: unexpected EOF"),
        (b"zz", "Request decode failed: invalid character 'z' looking for beginning of value"),
        (b'"\xff"', "Request decode failed: "),
        (b"[" * 100_000, "Request decode failed: "),
    ],
)
def test_bodies_that_are_not_json(body, message):
    with pytest.raises(Misuse) as refused:
        decode_body(FaceWorld().request("PUT", "/v1/catalog/register", body))
    assert refused.value.message.startswith(message)
