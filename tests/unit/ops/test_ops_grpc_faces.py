"""A row of the table of faces may bring a gRPC face beside an HTTP face, on one port."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType, SimpleNamespace

import pytest

from townhall.face import Reply
from townhall.face.grpc import Code, Faces, Method
from townhall.ops import assembly
from townhall.ops.assembly import assemble
from townhall.ops.config import load
from townhall.ops.faces import FACES
from townhall.ops.listen import Endpoint
from townhall.wire.http2 import PREFACE, frames


class Toy:
    name = "toy"

    def __init__(self) -> None:
        self.methods = [Method("/toy.Toy/Echo", lambda call, reader: Reply(Code.OK, call.message))]

    def credentials(self, metadata):
        return ""

    def error(self, error, call):
        return Reply(Code.UNKNOWN, str(error).encode())


def test_a_row_with_two_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("toy_faces")
    module.build = lambda version: Faces(Toy())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_faces", module)
    rows = tuple(row._replace(face="toy_faces:build") if row.name == "xds" else row for row in FACES)
    monkeypatch.setattr(assembly, "FACES", rows)

    async def scenario() -> None:
        effective = load({"native": "0"}, {})
        built = await assemble(
            SimpleNamespace(  # type: ignore[arg-type]
                settings=effective.settings,
                listeners={**effective.listeners, "xds": Endpoint("127.0.0.1", 0)},
            ),
            None,
            node="n",
        )
        where = built.addresses["xds"]
        reader, writer = await asyncio.open_connection(where.host, where.port)
        block = b"\x83\x86\x04\x0d/toy.Toy/Echo\x0f\x10\x10application/grpc"
        call = frames.frame(1, 4, 1, block) + frames.frame(0, 1, 1, b"\0\0\0\0\2hi")
        writer.write(PREFACE + frames.settings({}) + call)
        said = b""
        while b"grpc-status" not in said:
            said += await asyncio.wait_for(reader.read(1000), 120)
        assert b"\0\0\0\0\2hi" in said
        writer.close()
        native = built.addresses["native"]
        reader, writer = await asyncio.open_connection(native.host, native.port)
        writer.write(b"GET /api/v1/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = await asyncio.wait_for(reader.read(), 120)
        assert b'townhall_grpc_calls_total{face="xds",code="0"} 1' in text
        writer.close()
        await built.stop(100)

    asyncio.run(scenario())
