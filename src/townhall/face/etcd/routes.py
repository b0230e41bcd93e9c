"""The etcd face: the whole table of methods, credentials, and errors in etcd's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from townhall.face import Reply
from townhall.face.etcd import health
from townhall.face.etcd.auth import AuthService
from townhall.face.etcd.cluster import ClusterService
from townhall.face.etcd.elections import ElectionService
from townhall.face.etcd.errors import told
from townhall.face.etcd.gateway import Gateway
from townhall.face.etcd.guarded import guarded, secret_of
from townhall.face.etcd.kv import KvService
from townhall.face.etcd.leases import LeaseService
from townhall.face.etcd.locks import LockService
from townhall.face.etcd.maintenance import MaintenanceService
from townhall.face.etcd.member import SPACE, Identity
from townhall.face.etcd.pages import Pages
from townhall.face.etcd.watch import WatchService
from townhall.face.grpc import Call, Faces, Method
from townhall.model.errors import TownhallError

__all__ = ["EtcdFace", "etcd_faces"]


class EtcdFace:
    """etcd's gRPC services; implements ``face.grpc.GrpcFace``. One for each registry: it holds what is encoded for it."""

    name = "etcd"
    certified_space = SPACE

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        services = (
            KvService, WatchService, LeaseService, AuthService, ClusterService, MaintenanceService, LockService,
            ElectionService,
        )  # fmt: skip
        rows = [method for service in services for method in service(identity).methods()]
        self.methods: Sequence[Method] = guarded([*rows, *health.methods()])

    def credentials(self, metadata: Mapping[str, str]) -> str:
        """The metadatum ``token``, or ``authorization``."""
        return secret_of(metadata)

    def error(self, error: TownhallError, call: Call | None) -> Reply:
        """Code and text."""
        return told(error, call)


def etcd_faces(identity: Identity) -> Faces:
    """What is served on etcd's port: gRPC, and beside it the JSON gateway and the plain pages."""
    face = EtcdFace(identity)
    return Faces(face, Gateway(face, Pages()))
