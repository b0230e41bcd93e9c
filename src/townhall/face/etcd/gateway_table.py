"""The paths of the JSON gateway: which method each is, and what it takes and gives.

``/v3`` is what etcd has had since 3.4; ``/v3beta`` (3.3) still answers in it, and ``/v3alpha`` (3.2 and before) does no
harm, so clients that choose by version find all of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from townhall.wire.etcd import auth, cluster, concurrency, kv, lease, maintenance, watch
from townhall.wire.protobuf import Message

__all__ = ["PREFIXES", "ROWS", "Row"]

PREFIXES: Final = ("/v3", "/v3beta", "/v3alpha")


class Row(NamedTuple):
    """One path below the prefix."""

    path: str
    method: str
    """Of the gRPC face."""
    request: type[Message]
    response: type[Message]


def _rows(service: str, *rows: tuple[str, str, type[Message], type[Message]]) -> tuple[Row, ...]:
    return tuple(Row(path, f"/{service}/{name}", request, response) for path, name, request, response in rows)


ROWS: Final[tuple[Row, ...]] = (
    *_rows(
        "etcdserverpb.KV",
        ("/kv/range", "Range", kv.RangeRequest, kv.RangeResponse),
        ("/kv/put", "Put", kv.PutRequest, kv.PutResponse),
        ("/kv/deleterange", "DeleteRange", kv.DeleteRangeRequest, kv.DeleteRangeResponse),
        ("/kv/txn", "Txn", kv.TxnRequest, kv.TxnResponse),
        ("/kv/compaction", "Compact", kv.CompactionRequest, kv.CompactionResponse),
    ),
    *_rows("etcdserverpb.Watch", ("/watch", "Watch", watch.WatchRequest, watch.WatchResponse)),
    *_rows(
        "etcdserverpb.Lease",
        ("/lease/grant", "LeaseGrant", lease.LeaseGrantRequest, lease.LeaseGrantResponse),
        ("/lease/revoke", "LeaseRevoke", lease.LeaseRevokeRequest, lease.LeaseRevokeResponse),
        ("/kv/lease/revoke", "LeaseRevoke", lease.LeaseRevokeRequest, lease.LeaseRevokeResponse),
        ("/lease/keepalive", "LeaseKeepAlive", lease.LeaseKeepAliveRequest, lease.LeaseKeepAliveResponse),
        ("/lease/timetolive", "LeaseTimeToLive", lease.LeaseTimeToLiveRequest, lease.LeaseTimeToLiveResponse),
        ("/kv/lease/timetolive", "LeaseTimeToLive", lease.LeaseTimeToLiveRequest, lease.LeaseTimeToLiveResponse),
        ("/lease/leases", "LeaseLeases", lease.LeaseLeasesRequest, lease.LeaseLeasesResponse),
        ("/kv/lease/leases", "LeaseLeases", lease.LeaseLeasesRequest, lease.LeaseLeasesResponse),
    ),
    *_rows(
        "etcdserverpb.Cluster",
        ("/cluster/member/add", "MemberAdd", cluster.MemberAddRequest, cluster.MemberAddResponse),
        ("/cluster/member/remove", "MemberRemove", cluster.MemberRemoveRequest, cluster.MemberRemoveResponse),
        ("/cluster/member/update", "MemberUpdate", cluster.MemberUpdateRequest, cluster.MemberUpdateResponse),
        ("/cluster/member/list", "MemberList", cluster.MemberListRequest, cluster.MemberListResponse),
        ("/cluster/member/promote", "MemberPromote", cluster.MemberPromoteRequest, cluster.MemberPromoteResponse),
    ),
    *_rows(
        "etcdserverpb.Maintenance",
        ("/maintenance/alarm", "Alarm", maintenance.AlarmRequest, maintenance.AlarmResponse),
        ("/maintenance/status", "Status", maintenance.StatusRequest, maintenance.StatusResponse),
        ("/maintenance/defragment", "Defragment", maintenance.DefragmentRequest, maintenance.DefragmentResponse),
        ("/maintenance/hash", "Hash", maintenance.HashRequest, maintenance.HashResponse),
        ("/maintenance/hashkv", "HashKV", maintenance.HashKVRequest, maintenance.HashKVResponse),
        ("/maintenance/snapshot", "Snapshot", maintenance.SnapshotRequest, maintenance.SnapshotResponse),
        (
            "/maintenance/transfer-leadership",
            "MoveLeader",
            maintenance.MoveLeaderRequest,
            maintenance.MoveLeaderResponse,
        ),
        ("/maintenance/downgrade", "Downgrade", maintenance.DowngradeRequest, maintenance.DowngradeResponse),
    ),
    *_rows(
        "etcdserverpb.Auth",
        ("/auth/enable", "AuthEnable", auth.AuthRequest, auth.AuthResponse),
        ("/auth/disable", "AuthDisable", auth.AuthRequest, auth.AuthResponse),
        ("/auth/status", "AuthStatus", auth.AuthRequest, auth.AuthStatusResponse),
        ("/auth/authenticate", "Authenticate", auth.AuthenticateRequest, auth.AuthenticateResponse),
        ("/auth/user/add", "UserAdd", auth.UserAddRequest, auth.AuthResponse),
        ("/auth/user/get", "UserGet", auth.UserRequest, auth.UserRolesResponse),
        ("/auth/user/list", "UserList", auth.AuthRequest, auth.UserListResponse),
        ("/auth/user/delete", "UserDelete", auth.UserRequest, auth.AuthResponse),
        ("/auth/user/changepw", "UserChangePassword", auth.UserChangePasswordRequest, auth.AuthResponse),
        ("/auth/user/grant", "UserGrantRole", auth.UserGrantRoleRequest, auth.AuthResponse),
        ("/auth/user/revoke", "UserRevokeRole", auth.UserRevokeRoleRequest, auth.AuthResponse),
        ("/auth/role/add", "RoleAdd", auth.RoleNameRequest, auth.AuthResponse),
        ("/auth/role/get", "RoleGet", auth.RoleRequest, auth.RoleGetResponse),
        ("/auth/role/list", "RoleList", auth.AuthRequest, auth.RoleListResponse),
        ("/auth/role/delete", "RoleDelete", auth.RoleRequest, auth.AuthResponse),
        ("/auth/role/grant", "RoleGrantPermission", auth.RoleGrantPermissionRequest, auth.AuthResponse),
        ("/auth/role/revoke", "RoleRevokePermission", auth.RoleRevokePermissionRequest, auth.AuthResponse),
    ),
    *_rows(
        "v3lockpb.Lock",
        ("/lock/lock", "Lock", concurrency.LockRequest, concurrency.LockResponse),
        ("/lock/unlock", "Unlock", concurrency.UnlockRequest, concurrency.UnlockResponse),
    ),
    *_rows(
        "v3electionpb.Election",
        ("/election/campaign", "Campaign", concurrency.CampaignRequest, concurrency.CampaignResponse),
        ("/election/proclaim", "Proclaim", concurrency.ProclaimRequest, concurrency.ProclaimResponse),
        ("/election/leader", "Leader", concurrency.LeaderRequest, concurrency.LeaderResponse),
        ("/election/observe", "Observe", concurrency.LeaderRequest, concurrency.LeaderResponse),
        ("/election/resign", "Resign", concurrency.ResignRequest, concurrency.ResignResponse),
    ),
)
