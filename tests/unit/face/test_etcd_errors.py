"""Every error of the registry has a code and a text that etcd's clients know what to do with."""

from __future__ import annotations

import inspect

import pytest
from etcd_calls import IDENTITY
from etcd_world import EtcdWorld

from townhall.face.etcd.errors import FUTURE, Said, told, words_of
from townhall.face.etcd.gateway import Gateway
from townhall.face.etcd.requests import MESSAGE_SIZE_MAX
from townhall.face.etcd.routes import EtcdFace, etcd_faces
from townhall.face.grpc import Call, Code
from townhall.model import errors
from townhall.model.access import Actor

CASES = [
    (Said(FUTURE), "OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision"),
    (errors.InvalidField("revision", "x"), "OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision"),
    (errors.InvalidField("operations", "x"), "INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request"),
    (errors.InvalidField("key", "x"), "INVALID_ARGUMENT", "etcdserver: key is not provided"),
    (errors.InvalidField("id", "x"), "INVALID_ARGUMENT", "etcdserver: id: x"),
    (errors.TooLarge("x", field="value", limit=1), "INVALID_ARGUMENT", "etcdserver: request is too large"),
    (errors.TooLarge("x", limit=1), "INVALID_ARGUMENT", "etcdserver: too many operations in txn request"),
    (errors.Malformed("x"), "INTERNAL", "grpc: error unmarshalling request: proto: x"),
    (errors.UnknownField("x"), "INVALID_ARGUMENT", "etcdserver: unknown field 'x'"),
    (errors.LeaseNotFound("x"), "NOT_FOUND", "etcdserver: requested lease not found"),
    (errors.NotFound("x", key=b"k"), "INVALID_ARGUMENT", "etcdserver: key not found"),
    (errors.NotFound("x"), "NOT_FOUND", "etcdserver: x"),
    (errors.AlreadyExists("x", lease=1), "FAILED_PRECONDITION", "etcdserver: lease already exists"),
    (errors.AlreadyExists("x"), "ALREADY_EXISTS", "etcdserver: x"),
    (errors.Conflict("x"), "FAILED_PRECONDITION", "etcdserver: x"),
    (errors.Compacted("x"), "OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted"),
    (errors.OverLimit("x", space="etcd"), "RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded"),
    (errors.OverLimit("x"), "RESOURCE_EXHAUSTED", "etcdserver: too many requests"),
    (errors.Denied("x"), "PERMISSION_DENIED", "etcdserver: permission denied"),
    (errors.EngineFull("x"), "RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded"),
    (errors.EngineFailed("x"), "UNAVAILABLE", "etcdserver: no leader"),
    (errors.OutcomeUnknown("x"), "UNAVAILABLE", "etcdserver: request timed out"),
    (errors.Stopping("x"), "UNAVAILABLE", "etcdserver: server stopped"),
    (errors.Unavailable("x"), "UNAVAILABLE", "etcdserver: request timed out"),
    (errors.Fenced("x"), "UNKNOWN", "etcdserver: x"),
    (errors.TownhallError("x"), "UNKNOWN", "etcdserver: x"),
]


@pytest.mark.parametrize(("error", "code", "text"), CASES, ids=lambda value: getattr(value, "code", ""))
def test_words(error: errors.TownhallError, code: str, text: str) -> None:
    reply = told(error, None)
    assert (Code(reply.status).name, reply.body.decode()) == (code, text)


def test_every_error_has_words() -> None:
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        error = kind("x", "y") if kind is errors.InvalidField else kind("x")
        assert words_of(error).code is not Code.OK


def test_who_said_nothing_is_told_apart_from_who_is_not_known() -> None:
    world = EtcdWorld()
    for metadata, text in (({}, "user name is empty"), ({"token": "x.1"}, "invalid auth token")):
        call = Call("/a/b", metadata, b"", "127.0.0.1:9", Actor(), world)
        assert told(errors.Unauthenticated("x"), call).body.decode() == f"etcdserver: {text}"


def test_the_face_has_every_method_once() -> None:
    face = EtcdFace(IDENTITY)
    paths = [method.path for method in face.methods]
    assert len(set(paths)) == len(paths)
    for service, count in (("KV", 5), ("Watch", 1), ("Lease", 5), ("Auth", 17), ("Cluster", 5)):
        assert sum(path.startswith(f"/etcdserverpb.{service}/") for path in paths) == count, service
    sizes = {method.message_size_max for method in face.methods if method.path.startswith("/etcdserverpb.KV/")}
    assert sizes == {MESSAGE_SIZE_MAX}
    assert face.credentials({"token": "t", "x": "y"}) == "t"
    assert face.error(errors.Denied("x"), None).status is Code.PERMISSION_DENIED


def test_the_gateway_shares_the_port() -> None:
    faces = etcd_faces(IDENTITY)
    assert isinstance(faces.grpc, EtcdFace)
    assert isinstance(faces.http, Gateway)
