"""The Auth service: every step and answer of the recording of etcd 3.6, and what it does not show."""

from __future__ import annotations

import pytest
from etcd_calls import Calls

from townhall.core import Rules
from townhall.core.commands import PutToken, Transact
from townhall.face import Park, Reply
from townhall.face.etcd.auth import TOKEN_USER
from townhall.face.etcd.guarded import FREE, secret_of
from townhall.face.etcd.member import SPACE
from townhall.face.grpc import Code
from townhall.model import limits
from townhall.model.keys import Put, Transaction
from townhall.wire.etcd import auth, cluster, concurrency, maintenance
from townhall.wire.protobuf import Message

A = "/etcdserverpb.Auth/"
PRECONDITION, ARGUMENT, DENIED = "FAILED_PRECONDITION", "INVALID_ARGUMENT", "PERMISSION_DENIED"


def perm(kind: int = 0, key: bytes = b"", end: bytes = b"") -> auth.Permission:
    return auth.Permission(kind, key, end)


BEFORE: list[tuple[str, Message, str, str]] = [
    ("AuthEnable", auth.AuthRequest(), PRECONDITION, "root user does not exist"),
    ("Authenticate", auth.AuthenticateRequest("x", "y"), PRECONDITION, "authentication is not enabled"),
    ("AuthDisable", auth.AuthRequest(), "", ""),
    ("UserAdd", auth.UserAddRequest("", "x"), ARGUMENT, "user name is empty"),
    ("UserAdd", auth.UserAddRequest("root", "rpw"), "", ""),
    ("UserAdd", auth.UserAddRequest("root", "rpw"), PRECONDITION, "user name already exists"),
    ("AuthEnable", auth.AuthRequest(), PRECONDITION, "root user does not have root role"),
    ("RoleAdd", auth.RoleNameRequest(""), ARGUMENT, "role name is empty"),
    ("RoleAdd", auth.RoleNameRequest("root"), "", ""),
    ("RoleAdd", auth.RoleNameRequest("root"), PRECONDITION, "role name already exists"),
    ("RoleAdd", auth.RoleNameRequest("reader"), "", ""),
    ("UserGrantRole", auth.UserGrantRoleRequest("root", "zzz"), PRECONDITION, "role name not found"),
    ("UserGrantRole", auth.UserGrantRoleRequest("zzz", "root"), PRECONDITION, "user name not found"),
    ("UserGrantRole", auth.UserGrantRoleRequest("root", "root"), "", ""),
    ("UserGrantRole", auth.UserGrantRoleRequest("root", "root"), "", ""),
    ("RoleGrantPermission", auth.RoleGrantPermissionRequest("reader", perm(0, b"r/", b"r0")), "", ""),
    ("RoleGrantPermission", auth.RoleGrantPermissionRequest("reader", perm(2, b"a")), "", ""),
    (
        "RoleGrantPermission",
        auth.RoleGrantPermissionRequest("zzz", perm(0, b"a")),
        PRECONDITION,
        "role name not found",
    ),
    ("RoleGrantPermission", auth.RoleGrantPermissionRequest("reader", perm()), ARGUMENT, "invalid auth management"),
    (
        "RoleGrantPermission",
        auth.RoleGrantPermissionRequest("reader", perm(0, b"b", b"a")),
        ARGUMENT,
        "invalid auth management",
    ),
    ("RoleGrantPermission", auth.RoleGrantPermissionRequest("reader"), ARGUMENT, "permission not given"),
    (
        "RoleGrantPermission",
        auth.RoleGrantPermissionRequest("reader", perm(9, b"a")),
        ARGUMENT,
        "invalid auth management",
    ),
    ("RoleGet", auth.RoleRequest("zzz"), PRECONDITION, "role name not found"),
    ("RoleDelete", auth.RoleRequest("zzz"), PRECONDITION, "role name not found"),
    (
        "RoleRevokePermission",
        auth.RoleRevokePermissionRequest("reader", b"zz"),
        PRECONDITION,
        "permission is not granted to the role",
    ),
    ("UserAdd", auth.UserAddRequest("amy", "apw"), "", ""),
    ("UserAdd", auth.UserAddRequest("cert", options=auth.UserAddOptions(True)), "", ""),
    ("UserAdd", auth.UserAddRequest("nopw"), "", ""),
    ("UserGrantRole", auth.UserGrantRoleRequest("amy", "reader"), "", ""),
    ("UserGet", auth.UserRequest("zzz"), PRECONDITION, "user name not found"),
    (
        "UserRevokeRole",
        auth.UserRevokeRoleRequest("amy", "zzz"),
        PRECONDITION,
        "role is not granted to the user",
    ),
    ("UserDelete", auth.UserRequest("zzz"), PRECONDITION, "user name not found"),
    ("UserChangePassword", auth.UserChangePasswordRequest("zzz", "x"), PRECONDITION, "user name not found"),
    ("AuthEnable", auth.AuthRequest(), "", ""),
]


def enabled() -> Calls:
    world = Calls()
    for name, message, code, text in BEFORE:
        reply = world.ask(A + name, message)
        assert (Code(reply.status).name if reply.status else "") == code, (name, message, reply.body)
        if code:
            assert reply.body.decode() == f"etcdserver: {text}"
    return world


def login(world: Calls, name: str, password: str) -> str:
    request = auth.AuthenticateRequest(name, password)
    return world.get(A + "Authenticate", request, auth.AuthenticateResponse).token


def test_everything_before_it_is_on_and_what_is_told_then():
    world = enabled()
    root = login(world, "root", "rpw")
    status = world.get(A + "AuthStatus", b"", auth.AuthStatusResponse, root)
    assert (status.enabled, status.auth_revision) == (True, 11)
    assert status.header is not None
    assert status.header.revision == 1
    shown = world.get(A + "RoleGet", auth.RoleRequest("reader"), auth.RoleGetResponse, root)
    assert list(shown.perm) == [perm(2, b"a"), perm(0, b"r/", b"r0")]
    everything = world.get(A + "RoleGet", auth.RoleRequest("root"), auth.RoleGetResponse, root)
    assert list(everything.perm) == [perm(2, b"", b"\0")]
    assert list(world.get(A + "RoleList", b"", auth.RoleListResponse, root).roles) == ["reader", "root"]
    users = world.get(A + "UserList", b"", auth.UserListResponse, root)
    assert list(users.users) == ["amy", "cert", "nopw", "root"]
    amy = world.get(A + "UserGet", auth.UserRequest("amy"), auth.UserRolesResponse, root)
    assert list(amy.roles) == ["reader"]


def test_logging_in():
    world = enabled()
    wrong = (ARGUMENT, "etcdserver: authentication failed, invalid user ID or password")
    for name, password in (("amy", "no"), ("zzz", "x"), ("", "")):
        assert world.refused(A + "Authenticate", auth.AuthenticateRequest(name, password)) == wrong
    assert world.refused(A + "Authenticate", auth.AuthenticateRequest("cert", "")) == (
        "UNKNOWN",
        "auth: authentication failed, password was given for no password user",
    )
    secret, _, index = login(world, "amy", "apw").partition(".")
    assert secret
    assert index.isdecimal()
    assert login(world, "nopw", "")


def test_strangers_and_bad_tokens():
    world = enabled()
    empty = (ARGUMENT, "etcdserver: user name is empty")
    unknown = ("UNAUTHENTICATED", "etcdserver: invalid auth token")
    for path in world.methods:
        if path in FREE or path.startswith("/grpc.health"):
            continue
        assert world.refused(path) == empty, path
        assert world.refused(path, token="bad.1") == unknown, path


def test_an_ordinary_user():
    world = enabled()
    amy = login(world, "amy", "apw")
    denied = (DENIED, "etcdserver: permission denied")
    for name, message in (
        ("UserList", auth.AuthRequest()),
        ("RoleList", auth.AuthRequest()),
        ("AuthStatus", auth.AuthRequest()),
        ("AuthDisable", auth.AuthRequest()),
        ("UserGet", auth.UserRequest("root")),
        ("RoleGet", auth.RoleRequest("root")),
        ("UserAdd", auth.UserAddRequest("eve", "x")),
        ("UserChangePassword", auth.UserChangePasswordRequest("root", "x")),
        ("UserGrantRole", auth.UserGrantRoleRequest("amy", "root")),
    ):
        assert world.refused(A + name, message, amy) == denied, name
    assert list(world.get(A + "UserGet", auth.UserRequest("amy"), auth.UserRolesResponse, amy).roles) == ["reader"]
    assert len(world.get(A + "RoleGet", auth.RoleRequest("reader"), auth.RoleGetResponse, amy).perm) == 2
    for path in (
        "/etcdserverpb.Maintenance/Defragment",
        "/etcdserverpb.Maintenance/Hash",
        "/etcdserverpb.Maintenance/HashKV",
        "/etcdserverpb.Maintenance/MoveLeader",
        "/etcdserverpb.Maintenance/Downgrade",
        "/etcdserverpb.Cluster/MemberAdd",
        "/etcdserverpb.Cluster/MemberRemove",
    ):
        assert world.refused(path, token=amy) == denied, path
    assert world.refused("/etcdserverpb.Maintenance/Alarm", maintenance.AlarmRequest(action=1), amy) == denied
    world.get("/etcdserverpb.Maintenance/Status", b"", maintenance.StatusResponse, amy)
    world.get("/etcdserverpb.Cluster/MemberList", b"", cluster.MemberListResponse, amy)


def test_who_may_not_look_at_a_lock_leaves_no_key_there():
    world = enabled()
    root, amy = login(world, "root", "rpw"), login(world, "amy", "apw")
    write_only = auth.RoleGrantPermissionRequest("reader", perm(1, b"w/", b"w0"))
    world.get(A + "RoleGrantPermission", write_only, auth.AuthResponse, root)
    denied = ("UNKNOWN", "etcdserver: permission denied")
    for path in ("/v3lockpb.Lock/Lock", "/v3electionpb.Election/Campaign"):
        assert world.refused(path, concurrency.LockRequest(b"w"), amy) == denied
    assert not world.reader(world.actor(root)).range(SPACE, b"w/", b"w0").kvs
    assert not world.state.leases


def test_root_must_stay_and_a_new_password_ends_tokens():
    world = enabled()
    root, amy = login(world, "root", "rpw"), login(world, "amy", "apw")
    kept = (ARGUMENT, "etcdserver: invalid auth management")
    assert world.refused(A + "UserDelete", auth.UserRequest("root"), root) == kept
    assert world.refused(A + "RoleDelete", auth.RoleRequest("root"), root) == kept
    assert world.refused(A + "UserRevokeRole", auth.UserRevokeRoleRequest("root", "root"), root) == kept
    world.get(A + "UserChangePassword", auth.UserChangePasswordRequest("amy", "new"), auth.AuthResponse, root)
    assert world.refused(A + "UserGet", auth.UserRequest("amy"), amy)[0] == "UNAUTHENTICATED"
    assert world.refused(A + "Authenticate", auth.AuthenticateRequest("amy", "apw"))[0] == ARGUMENT
    world.get(A + "UserRevokeRole", auth.UserRevokeRoleRequest("amy", "reader"), auth.AuthResponse, root)
    revoke = auth.RoleRevokePermissionRequest("reader", b"r/", b"r0")
    world.get(A + "RoleRevokePermission", revoke, auth.AuthResponse, root)
    world.get(A + "AuthDisable", b"", auth.AuthResponse, root)
    for name in ("root", "amy", "cert", "nopw"):
        world.get(A + "UserDelete", auth.UserRequest(name), auth.AuthResponse)
    for name in ("root", "reader"):
        world.get(A + "RoleDelete", auth.RoleRequest(name), auth.AuthResponse)
    assert world.get(A + "AuthStatus", b"", auth.AuthStatusResponse).enabled is False


def test_a_token_is_ignored_while_it_is_off():
    world = Calls()
    assert world.get(A + "AuthStatus", b"", auth.AuthStatusResponse, "nonsense").auth_revision == 1


def test_a_management_token_is_root():
    world = enabled()
    made = world.run(PutToken(management=True))
    world.get(A + "AuthDisable", b"", auth.AuthResponse, made.result[1])  # type: ignore[union-attr,index]


def test_with_access_control_on_users_still_log_in():
    world = Calls(Rules(access_required=True))
    made = world.run(PutToken(management=True))
    manager = made.result[1]  # type: ignore[union-attr,index]
    for message in (auth.UserAddRequest("root", "rpw"), auth.UserAddRequest("amy", "apw")):
        assert world.refused(A + "UserAdd", message)[0] == "UNAUTHENTICATED"
        world.get(A + "UserAdd", message, auth.AuthResponse, manager)
    world.get(A + "UserGrantRole", auth.UserGrantRoleRequest("root", "root"), auth.AuthResponse, manager)
    world.get(A + "AuthEnable", b"", auth.AuthResponse, manager)
    assert world.actor(login(world, "root", "rpw")).user == ("etcd", "root")


def test_a_token_of_the_registry_is_its_own_password():
    world = Calls(Rules(access_required=True))
    made = world.run(PutToken(management=True))
    secret = made.result[1]  # type: ignore[union-attr,index]
    assert login(world, TOKEN_USER, secret) == secret
    request = auth.AuthenticateRequest(TOKEN_USER, "nonsense")
    assert world.refused(A + "Authenticate", request)[0] in {PRECONDITION, "UNAUTHENTICATED"}
    free = enabled()
    assert free.refused(A + "Authenticate", auth.AuthenticateRequest(TOKEN_USER, "x"))[0] == ARGUMENT


def test_a_password_that_changes_while_it_is_checked_is_wrong():
    world = enabled()
    root = login(world, "root", "rpw")
    world.slow = []
    verb = world.call(A + "Authenticate", auth.AuthenticateRequest("amy", "apw"))
    assert isinstance(verb, Park)
    assert verb.attempt(world.reader(), False) is None
    (finish,) = world.slow
    world.slow = None
    world.get(A + "UserChangePassword", auth.UserChangePasswordRequest("amy", "apw"), auth.AuthResponse, root)
    finish()
    answered = verb.attempt(world.reader(), False)
    assert isinstance(answered, Reply)
    assert answered.status is Code.INVALID_ARGUMENT


def test_work_that_takes_too_long_is_told_so():
    world = enabled()
    world.slow = []
    verb = world.call(A + "Authenticate", auth.AuthenticateRequest("amy", "apw"))
    assert isinstance(verb, Park)
    assert verb.wait_ms == limits.WORK_WAIT_MS
    with pytest.raises(Exception, match="etcdserver: request timed out"):
        verb.attempt(world.reader(), True)
    assert verb.abandoned is not None
    assert not verb.abandoned(), "nothing is to be written; the work is not begun any more"


def test_where_tokens_are_presented():
    assert secret_of({"token": "t.1"}) == secret_of({"authorization": "t.1"}) == "t.1"
    assert secret_of({"authorization": "Bearer t.1"}) == "t.1"
    assert secret_of({}) == ""


def test_what_users_do_is_judged_by_their_rights():
    world = enabled()
    amy = world.actor(login(world, "amy", "apw"))
    for key, allowed in ((b"a", True), (b"r/a", False)):
        put = Transact(space="etcd", transaction=Transaction(success=(Put(key, b""),)))
        assert (type(world.run(put, amy)).__name__ == "Outcome") is allowed
