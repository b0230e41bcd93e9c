"""Consul's tokens and policies over the registry's access control."""

from __future__ import annotations

import json
from typing import Any

import pytest
from consul_kv_world import ConsulWorld

from townhall.core.commands import PutPolicy
from townhall.face.consul import (
    acl,
    acl_grants,
    acl_methods,
    acl_policies,
    acl_roles,
    acl_rules,
    acl_templates,
    kv,
)
from townhall.model.access import Level, Resource, Rule


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
    for body in (
        {"Roles": [{"Name": "ghost"}]}, {"ServiceIdentities": [{"ServiceName": "S"}]}, {"AccessorID": "a"},
        {"ServiceIdentities": [{}]}, {"NodeIdentities": [{"NodeName": "n"}]}, {"NodeIdentities": [{"Datacenter": "dc1"}]},
        {"Policies": [{"Name": "ghost"}]}, {"Policies": [{"ID": "ghost"}]}, {"TemplatedPolicies": [{"TemplateName": "x"}]},
        {"TemplatedPolicies": [{"TemplateName": "builtin/node"}]}, {"ExpirationTTL": "1s"}, {"ExpirationTTL": "25h"},
        {"Local": True, "ServiceIdentities": [{"ServiceName": "s", "Datacenters": ["dc1"]}]},
    ):  # fmt: skip
        ask(world, root, "PUT", "token", body, status=400)
    ask(world, root, "PUT", "policy", {"Name": "bad", "Rules": "key {"}, status=400)
    ask(world, root, "GET", "token/unknown", status=403)
    ask(world, root, "GET", "policy/unknown", status=400)
    ask(world, root, "POST", "login", {"AuthMethod": "m"}, status=403)
    ask(world, "", "PUT", "role", {"Name": "r"}, status=403)
    ask(world, root, "GET", "role/ghost", status=404)
    ask(world, root, "GET", "role/name/ghost", status=404)
    ask(world, root, "DELETE", "role/ghost", status=404)
    ask(world, root, "PUT", "nonsense", {"Name": "r"}, status=404)
    assert ask(world, root, "GET", "roles") == []
    assert ask(world, root, "GET", "replication")["Enabled"] is False


def test_roles(world: ConsulWorld, root: str) -> None:
    ask(world, root, "PUT", "policy", {"Name": "app", "Rules": 'key_prefix "app/" { policy = "write" }'})
    body = {"Name": "r", "Description": "d", "Policies": [{"Name": "app"}], "ServiceIdentities": [{"ServiceName": "web"}],
            "NodeIdentities": [{"NodeName": "n9", "Datacenter": "dc1"}]}  # fmt: skip
    role = ask(world, root, "PUT", "role", body)
    assert {name: role[name] for name in ("Name", "Description", "ServiceIdentities", "NodeIdentities")} == {
        name: body[name] for name in ("Name", "Description", "ServiceIdentities", "NodeIdentities")
    }
    assert ask(world, root, "GET", f"role/{role['ID']}") == role
    assert ask(world, root, "GET", "role/name/r") == role
    assert ask(world, root, "GET", "roles") == [role]
    assert ask(world, root, "GET", f"roles?policy={role['Policies'][0]['ID']}") == [role]
    assert ask(world, root, "GET", "roles?policy=other") == []
    ask(world, root, "PUT", "role", {"Name": "r"}, status=400)
    ask(world, root, "PUT", "role", {"Name": "m", "Policies": [{"Name": "global-management"}]}, status=400)
    ask(world, root, "PUT", f"role/{role['ID']}", {"Name": "s"}, status=400)

    token = ask(world, root, "PUT", "token", {"Roles": [{"Name": "r"}, {"ID": role["ID"]}]})
    assert token["Roles"] == [{"ID": role["ID"], "Name": "r"}]
    assert [one["AccessorID"] for one in ask(world, root, "GET", f"tokens?role={role['ID']}")] == [token["AccessorID"]]
    expanded = ask(world, root, "GET", f"token/{token['AccessorID']}?expanded")
    assert [one["Name"] for one in expanded["ExpandedPolicies"]] == ["app"]
    secret = token["SecretID"]
    assert world.call("PUT", "/v1/kv/app/x", b"v", x_consul_token=secret).json is True
    actor = world.request("GET", "/v1/kv/x", headers={"x-consul-token": secret}).actor
    assert world.reader(actor).may(Resource.SERVICE, Level.WRITE, "default/default/web")
    assert world.reader(actor).may(Resource.NODE, Level.WRITE, "n9")

    changed = ask(world, root, "PUT", f"role/{role['ID']}", {"Name": "r", "Description": "less"})
    assert (changed["Description"], "ServiceIdentities" in changed) == ("less", False)
    assert world.call("PUT", "/v1/kv/app/x", b"v", x_consul_token=secret).status == 403
    assert ask(world, root, "DELETE", f"role/{role['ID']}") is True
    assert "Roles" not in ask(world, root, "GET", f"token/{token['AccessorID']}")


def test_identities_and_templates_of_a_token(world: ConsulWorld, root: str) -> None:
    body = {
        "ServiceIdentities": [{"ServiceName": "web", "Datacenters": ["dc1"]}], "Local": False,
        "TemplatedPolicies": [{"TemplateName": "builtin/service", "TemplateVariables": {"Name": "db"}},
                              {"TemplateName": "builtin/dns"}],
    }  # fmt: skip
    token = ask(world, root, "PUT", "token", body)
    assert token["ServiceIdentities"] == body["ServiceIdentities"]
    assert token["TemplatedPolicies"] == [
        {"TemplateName": "builtin/service", "TemplateVariables": {"name": "db"}}, {"TemplateName": "builtin/dns"}
    ]  # fmt: skip
    assert [one["AccessorID"] for one in ask(world, root, "GET", "tokens?servicename=web")] == [token["AccessorID"]]
    actor = world.request("GET", "/v1/kv/x", headers={"x-consul-token": token["SecretID"]}).actor
    for name, may in (("web", True), ("db-sidecar-proxy", True), ("other", False)):
        assert world.reader(actor).may(Resource.SERVICE, Level.WRITE, f"default/default/{name}") is may
    clone = ask(world, root, "PUT", f"token/{token['AccessorID']}/clone", {})
    assert clone["TemplatedPolicies"] == token["TemplatedPolicies"]


def test_templates(world: ConsulWorld, root: str) -> None:
    assert "builtin/service" in ask(world, root, "GET", "templated-policies")
    shown = ask(world, root, "GET", "templated-policy/name/builtin/service")
    assert 'service "{{.Name}}"' in shown["Template"]
    assert json.loads(shown["Schema"])["required"] == ["name"]
    preview = ask(world, root, "POST", "templated-policy/preview/builtin/service", {"Name": "my-service"})
    assert preview["Name"] == f"synthetic-policy-{preview['ID']}"
    assert 'service "my-service"' in preview["Rules"]
    ask(world, root, "GET", "templated-policy/name/ghost", status=400)
    ask(world, root, "POST", "templated-policy/preview/builtin/service", {"Name": "no spaces"}, status=400)
    ask(world, "", "GET", "templated-policies", status=403)
    for template in acl_templates.TEMPLATES:
        assert acl_rules.core_rules(acl_templates.template_rules(template, "x"))


def test_the_token_of_everybody(world: ConsulWorld, root: str) -> None:
    everybody = "00000000-0000-0000-0000-000000000002"
    assert world.call("GET", "/v1/kv/app/x").status == 403
    ask(world, root, "PUT", "policy", {"Name": "app", "Rules": 'key_prefix "app/" { policy = "read" }'})
    for description in ("first", "then"):
        shown = ask(
            world, root, "PUT", f"token/{everybody}", {"Policies": [{"Name": "app"}], "Description": description}
        )
        assert (shown["AccessorID"], shown["SecretID"], shown["Description"]) == (everybody, "anonymous", description)
    assert ask(world, root, "GET", f"token/{everybody}") == shown
    assert len(ask(world, root, "GET", "tokens")) == 2
    assert world.call("GET", "/v1/kv/app/x").status == 404
    ask(world, root, "DELETE", f"token/{everybody}", status=400)
    ask(world, "", "DELETE", f"token/{everybody}", status=403)


def test_tokens_keep_what_they_began_with(world: ConsulWorld, root: str) -> None:
    token = ask(world, root, "PUT", "token", {"Local": True, "ExpirationTTL": "10m"})
    assert token["Local"] is True
    world.now += 60_000
    changed = ask(world, root, "PUT", f"token/{token['AccessorID']}", {"Description": "d"})
    assert (changed["Local"], changed["ExpirationTime"]) == (True, token["ExpirationTime"])
    for body in ({"Local": False}, {"ExpirationTTL": "5m"}, {"AccessorID": "other"}):
        ask(world, root, "PUT", f"token/{token['AccessorID']}", body, status=400)
    own = ask(world, root, "GET", "token/self")["AccessorID"]
    ask(world, root, "DELETE", f"token/{own}", status=400)
    ask(world, root, "POST", "logout", status=403)
    ask(world, "", "POST", "logout", status=403)


def test_methods_and_binding_rules_are_kept_and_nobody_logs_in(world: ConsulWorld, root: str) -> None:
    method = {"Name": "m", "Type": "jwt", "Config": {"BoundIssuer": "i"}}
    made = ask(world, root, "PUT", "auth-method", method)
    assert {name: made[name] for name in method} == method
    for wrong in ({"Name": "m", "Type": "jwt"}, {"Name": "x", "Type": "zap"}, {"Type": "jwt"}):
        ask(world, root, "PUT", "auth-method", wrong, status=400)
    assert ask(world, root, "GET", "auth-method/m") == made
    assert [("Config" in one, one["Name"]) for one in ask(world, root, "GET", "auth-methods")] == [(False, "m")]
    assert ask(world, root, "PUT", "auth-method/m", {"Description": "d"})["Description"] == "d"
    ask(world, root, "PUT", "auth-method/m", {"Type": "kubernetes"}, status=400)
    ask(world, root, "PUT", "auth-method/m", {"Name": "other"}, status=400)

    rule = {"AuthMethod": "m", "BindType": "service", "BindName": "web", "Selector": ""}
    bound = ask(world, root, "PUT", "binding-rule", rule)
    assert {name: bound[name] for name in rule} == rule
    for field in ({"AuthMethod": "ghost"}, {"BindType": "zap"}, {"BindName": ""}, {"ID": "mine"}):
        ask(world, root, "PUT", "binding-rule", rule | field, status=400)
    assert ask(world, root, "GET", f"binding-rule/{bound['ID']}") == bound
    assert ask(world, root, "GET", "binding-rules?authmethod=m") == [bound]
    assert ask(world, root, "GET", "binding-rules?authmethod=n") == []
    changed = ask(world, root, "PUT", f"binding-rule/{bound['ID']}", rule | {"Description": "d"})
    assert changed["Description"] == "d"
    ask(world, root, "PUT", f"binding-rule/{bound['ID']}", rule | {"AuthMethod": "n"}, status=400)

    assert b"logins by it are not done" in ask(world, "", "POST", "login", {"AuthMethod": "m"}, status=403)
    ask(world, "", "GET", "auth-methods", status=403)
    ask(world, "", "PUT", "auth-method", method | {"Name": "z"}, status=403)
    assert ask(world, root, "DELETE", "auth-method/m") is True
    assert ask(world, root, "GET", "binding-rules") == [], "its rules go with it"
    ask(world, root, "DELETE", f"binding-rule/{bound['ID']}", status=404)
    ask(world, root, "GET", "auth-method/m", status=404)


def test_rules_that_others_wrote_are_told_in_consuls_words(world: ConsulWorld, root: str) -> None:
    rules = acl_rules.core_rules(
        'service_prefix "w" { policy = "write" } key "k" { policy = "deny" } operator = "read" agent "a" { policy = "read" }'
    )
    world.run(PutPolicy(name="native", rules=rules))
    shown = ask(world, root, "GET", "policy/name/native")["Rules"]
    assert {rule for rule in acl_rules.core_rules(shown) if rule.resource is not Resource.KEY} == {
        rule for rule in rules if rule.resource is not Resource.KEY
    }
    assert 'key "k"' in shown
    assert (
        acl_rules.rules_text((Rule(Resource.SERVICE, Level.READ, ""),)) == 'service_prefix "" {\n  policy = "read"\n}'
    )


def test_parts() -> None:
    assert acl_policies.Policies.rows
    assert acl_roles.Roles.rows
    assert acl_methods.SPACE == "consul.acl"
    assert acl_grants.policy_id("p") != acl_grants.role_id("p")
