from __future__ import annotations

import pytest
from grpc_serving import ToyFace

from townhall.face.grpc import Kind, Method
from townhall.model.limits import GRPC_MESSAGE_SIZE_MAX
from townhall.serve.grpc_plans import CallPlans
from townhall.wire.http2 import Http2Limits
from townhall.wire.http2.heads import head_of_fields


@pytest.mark.parametrize("path", ["toy.Toy/Echo", "/Echo", "/a/b/c", "/toy.Toy/Echo"])
def test_a_table_that_cannot_be_compiled(path: str) -> None:
    face = ToyFace()
    face.methods.append(Method(path, face.echo))
    with pytest.raises(ValueError, match="is no method's path"):
        CallPlans(face, Http2Limits())


def test_what_a_plan_says() -> None:
    plans = CallPlans(ToyFace(), Http2Limits())
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/toy.Toy/Chat"),
        (b"content-type", b"application/grpc;x"),
    ]
    plan = plans.plan(
        head_of_fields([*fields, (b"token", b"a"), (b"k", b"1"), (b"k", b"2"), (b"grpc-encoding", b"gzip")])
    )
    assert (plan.kind, plan.path, plan.secret, plan.gzip) == (Kind.DUPLEX, "/toy.Toy/Chat", "a", True)
    assert plan.metadata == {"token": "a", "k": "1,2"}
    assert plan.size_max == GRPC_MESSAGE_SIZE_MAX
    assert plan.fixed is plan.http is None
