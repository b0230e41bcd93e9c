"""The messages of etcd's gRPC API (3.6): etcdserverpb, mvccpb, authpb, v3lockpb, v3electionpb and grpc.health.v1.

One file a service; ``fragments`` writes by hand what is written most. Field numbers and names are etcd's
(api/etcdserverpb/rpc.proto, api/mvccpb/kv.proto, api/authpb/auth.proto); attributes are their names in snake case.
"""

from __future__ import annotations

from townhall.wire import protobuf

__all__ = ["NAMES", "EtcdMessage"]

NAMES = {
    "id": "ID",
    "ttl": "TTL",
    "granted_ttl": "grantedTTL",
    "member_id": "memberID",
    "peer_urls": "peerURLs",
    "client_urls": "clientURLs",
    "is_learner": "isLearner",
    "target_id": "targetID",
    "db_size": "dbSize",
    "db_size_in_use": "dbSizeInUse",
    "db_size_quota": "dbSizeQuota",
    "raft_index": "raftIndex",
    "raft_applied_index": "raftAppliedIndex",
    "storage_version": "storageVersion",
    "downgrade_info": "downgradeInfo",
    "target_version": "targetVersion",
    "hashed_password": "hashedPassword",
    "auth_revision": "authRevision",
    "perm_type": "permType",
}
"""Attributes that are not spelled as in the .proto files."""


class EtcdMessage(protobuf.Message, frozen=True, rename=NAMES):
    """A message whose attributes have the names of the .proto files in JSON."""
