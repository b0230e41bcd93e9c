"""The literal table of faces: name, option, usual port, and where its builder is.

A row without ``face`` is a face that a later version brings; its option exists already so that scripts and units
can be written, and asking for it says plainly that it is not here yet.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["FACES", "FaceRow", "built_faces"]


class FaceRow(NamedTuple):
    """One face: ``face`` is ``module:callable`` of what makes it, or "" when this version does not have it."""

    name: str
    port: int
    about: str
    face: str = ""


FACES: Final[tuple[FaceRow, ...]] = (
    FaceRow("native", 7500, "Townhall's own protocol, HTTP and JSON, always on", "townhall.face.native:NativeFace"),
    FaceRow("consul", 8500, "Consul's HTTP API", "townhall.face.consul:ConsulFace"),
    FaceRow("dns", 8600, "Consul's names over DNS, by UDP and TCP", "townhall.face.dns.answering:DnsFace"),
    FaceRow("etcd", 2379, "etcd v3 over gRPC, and its JSON gateway", "townhall.face.etcd.routes:etcd_faces"),
    FaceRow("zookeeper", 2181, "ZooKeeper's session protocol"),
    FaceRow("eureka", 8761, "Eureka's REST API"),
    FaceRow("nacos", 8848, "Nacos over HTTP, its gRPC at the port + 1000"),
    FaceRow("xds", 18000, "Envoy's xDS over gRPC"),
)


def built_faces() -> tuple[str, ...]:
    """Names of the faces that this version can serve, in the order of the table."""
    return tuple(row.name for row in FACES if row.face)
