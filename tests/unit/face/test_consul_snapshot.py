"""Restoring an archive through the face; saving is handed in by the process (``ops.consul_agent``)."""

from __future__ import annotations

import gzip
import hashlib

from consul_world import FaceWorld

from townhall.core.codec import dump_state
from townhall.core.commands import BootstrapAccess, PutPolicy, PutToken
from townhall.face import Reply, Route
from townhall.face.consul import ConsulFace, snapshot
from townhall.face.consul.acl_rules import core_rules
from townhall.model import limits
from townhall.wire import consul_snapshot as archive


def saved(world: FaceWorld) -> bytes:
    state = archive.state_head(7) + b"".join(map(archive.record, dump_state(world.state)))
    about = archive.meta(index=7, size=len(state), node_id="n", address="127.0.0.1:8300")
    sums = archive.sums(meta_digest=hashlib.sha256(about).hexdigest(), state_digest=hashlib.sha256(state).hexdigest())
    files = (("meta.json", about), ("state.bin", state), ("SHA256SUMS", sums))
    return gzip.compress(
        b"".join(
            archive.tar_head(name, len(body), seconds=1) + body + archive.padding(len(body)) for name, body in files
        )
        + b"\0" * 1_024
    )


def test_what_stood_stands_again() -> None:
    world = FaceWorld()
    world.put("/v1/kv/a", b"before")
    world.service("web")
    archived = saved(world)
    world.put("/v1/kv/a", b"after")
    world.put("/v1/agent/service/deregister/web")
    answer = world.call("PUT", "/v1/snapshot", archived)
    assert (answer.status, answer.body) == (200, b"")
    assert world.call("GET", "/v1/kv/a?raw").body == b"before"
    assert world.healthy("web") == ["web"]


def test_what_is_no_archive_of_ours() -> None:
    world = FaceWorld()
    assert world.refused("PUT", "/v1/snapshot", b"xx") == (400, "failed to decompress snapshot: gzip: invalid header")
    assert world.refused("PUT", "/v1/snapshot") == (400, "failed to decompress snapshot: unexpected EOF")
    assert world.refused("PUT", "/v1/snapshot?dc=other", b"")[0] == 400
    assert world.refused("GET", "/v1/snapshot")[0] == 501
    broken = saved(world)
    assert world.call("PUT", "/v1/snapshot", broken[:-9]).status == 400


def test_only_a_management_token_may() -> None:
    world = FaceWorld()
    world.run(PutPolicy(name="p", rules=core_rules('operator = "write"')))
    world.run(PutToken(policies=("p",), secret="operator-operator"))
    world.run(BootstrapAccess())
    for token in ("", "operator-operator"):
        for method in ("GET", "PUT"):
            assert world.call(method, "/v1/snapshot", b"", x_consul_token=token).status == 403


def test_rows_that_are_handed_in_take_the_place_of_the_faces_own() -> None:
    given = Route("GET", "/v1/snapshot", lambda request, reader: Reply(204))
    face = ConsulFace(extra=[given, Route("GET", "/v1/more", given.handler)])
    rows = {(route.method, route.pattern): route for route in face.routes}
    assert rows["GET", "/v1/snapshot"].handler is given.handler
    assert rows["GET", "/v1/more"].handler is given.handler
    assert rows["PUT", "/v1/snapshot"].body_size_max == limits.COMMIT_SIZE_MAX
    assert limits.SNAPSHOT_STATE_SIZE_MAX > limits.COMMIT_SIZE_MAX
    assert snapshot.__all__ == ["Snapshots", "routes"]
