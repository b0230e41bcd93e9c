"""Consul's tokens and policies over the registry's access control."""

from __future__ import annotations

from typing import Any

import pytest
from consul_kv_world import ConsulWorld

from townhall.face.consul import acl, kv


@pytest.fixture
def world() -> ConsulWorld:
    return ConsulWorld(acl.routes, kv.routes)


@pytest.fixture
def root(world: ConsulWorld) -> str:
    """Access control is on; the secret of the management token."""
    outcome = world.run(acl.BootstrapAccess())
    return str(outcome.result[1])  # type: ignore[union-attr, index]


def ask(world: ConsulWorld, token: str, method: str, path: str, body: Any = b"", status: int = 200) -> Any:
    answer = world.call(method, f"/v1/acl/{path}", body, x_consul_token=token)
    assert answer.status == status, answer.body
    return answer.json if status == 200 else answer.body


def test_without_access_control_everything_says_so(world: ConsulWorld) -> None:
    for method, path in (
        ("GET", "tokens"), ("PUT", "bootstrap"), ("GET", "token/self"), ("PUT", "policy"), ("POST", "login"),
        ("GET", "replication"),
    ):  # fmt: skip
        answer = world.call(method, f"/v1/acl/{path}", b"{}")
        assert (answer.status, answer.body) == (401, b"ACL support disabled")
    assert not world.state.access_enabled


def test_a_second_bootstrap_is_refused(world: ConsulWorld, root: str) -> None:
    assert b"no longer allowed" in ask(world, "", "PUT", "bootstrap", status=403)


def test_what_no_token_may_do(world: ConsulWorld, root: str) -> None:
    for method, path in (("GET", "tokens"), ("PUT", "token"), ("GET", "policies"), ("GET", "roles")):
        ask(world, "", method, path, {} if method == "PUT" else b"", status=403)
    ask(world, "wrong", "GET", "tokens", status=403)


def test_a_policy_and_a_token_that_has_it(world: ConsulWorld, root: str) -> None:
    rules = 'key_prefix "app/" { policy = "write" }  # ours\nkey "app/secret" { policy = "deny" }'
    policy = ask(world, root, "PUT", "policy", {"Name": "app", "Rules": rules, "Description": "for app"})
    assert (policy["Name"], policy["Rules"], policy["Description"]) == ("app", rules, "for app")
    assert ask(world, root, "GET", f"policy/{policy['ID']}") == policy
    assert ask(world, root, "GET", "policy/name/app") == policy
    assert [one["Name"] for one in ask(world, root, "GET", "policies")] == ["global-management", "app"]

    token = ask(world, root, "PUT", "token", {"Policies": [{"Name": "app"}], "Description": "d"})
    assert token["Policies"] == [{"ID": policy["ID"], "Name": "app"}]
    secret = token["SecretID"]
    assert ask(world, secret, "GET", "token/self")["AccessorID"] == token["AccessorID"]
    assert world.call("PUT", "/v1/kv/app/x", b"v", x_consul_token=secret).json is True
    assert world.call("PUT", "/v1/kv/other", b"v", x_consul_token=secret).status == 403
    assert world.call("GET", "/v1/kv/app/secret", x_consul_token=secret).status == 403
    ask(world, secret, "GET", "tokens", status=403)

    shown = ask(world, root, "GET", "tokens")
    assert {one["SecretID"] for one in shown} == {"<hidden>", "anonymous"}
    assert len(ask(world, root, "GET", f"tokens?policy={policy['ID']}")) == 1
    assert ask(world, root, "DELETE", f"token/{token['AccessorID']}") is True
    assert world.call("GET", "/v1/kv/app/x", x_consul_token=secret).status == 403


def test_ids_and_secrets_may_be_chosen(world: ConsulWorld, root: str) -> None:
    accessor, secret = "00000000-dead-beef-0000-000000000000", "deadbeef-0000-0000-0000-000000000000"
    made = ask(world, root, "PUT", "token", {"AccessorID": accessor, "SecretID": secret})
    assert (made["AccessorID"], made["SecretID"]) == (accessor, secret)
    ask(world, root, "PUT", "token", {"AccessorID": accessor}, status=409)
    assert ask(world, root, "GET", f"token/{accessor}")["SecretID"] == "<hidden>"
    assert ask(world, secret, "GET", "token/self")["SecretID"] == secret, "who holds it may see it"


def test_a_token_is_changed_and_cloned(world: ConsulWorld, root: str) -> None:
    token = ask(world, root, "PUT", "token", {"Policies": [{"Name": "global-management"}], "ExpirationTTL": "10m"})
    assert token["Policies"][0]["Name"] == "global-management"
    assert "ExpirationTime" in token
    changed = ask(world, root, "PUT", f"token/{token['AccessorID']}", {"Description": "less"})
    assert (changed["Description"], changed["Policies"]) == ("less", [])
    clone = ask(world, root, "PUT", f"token/{token['AccessorID']}/clone", {"Description": "again"})
    assert clone["AccessorID"] != token["AccessorID"]
    assert clone["Description"] == "again"


def test_a_policy_is_changed_and_forgotten(world: ConsulWorld, root: str) -> None:
    policy = ask(world, root, "PUT", "policy", {"Name": "p"})
    ask(world, root, "PUT", "policy", {"Name": "p"}, status=400)
    changed = ask(world, root, "PUT", f"policy/{policy['ID']}", {"Name": "p", "Rules": 'operator = "read"'})
    assert changed["Rules"] == 'operator = "read"'
    ask(world, root, "PUT", f"policy/{policy['ID']}", {"Name": "q"}, status=400)
    assert ask(world, root, "DELETE", f"policy/{policy['ID']}") is True
    ask(world, root, "GET", f"policy/{policy['ID']}", status=404)


def test_what_is_not_there_is_refused_by_name(world: ConsulWorld, root: str) -> None:
    for body in ({"Roles": [{"Name": "r"}]}, {"ServiceIdentities": [{"ServiceName": "s"}]}, {"AccessorID": "a"},
                 {"Policies": [{"Name": "ghost"}]}):  # fmt: skip
        ask(world, root, "PUT", "token", body, status=400)
    ask(world, root, "PUT", "policy", {"Name": "bad", "Rules": "key {"}, status=400)
    ask(world, root, "GET", "token/unknown", status=403)
    ask(world, root, "GET", "policy/unknown", status=400)
    ask(world, root, "POST", "login", {"AuthMethod": "m"}, status=403)
    ask(world, "", "PUT", "role", {"Name": "r"}, status=403)
    ask(world, root, "PUT", "role", {"Name": "r"}, status=404)
    assert ask(world, root, "GET", "roles") == []
    assert ask(world, root, "GET", "replication")["Enabled"] is False
