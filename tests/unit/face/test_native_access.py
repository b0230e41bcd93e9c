from __future__ import annotations

import pytest
from native_world import World

from townhall.face.native.access import policy_view, token_view
from townhall.model.access import Level, Policy, Resource, Rule, Token


@pytest.fixture
def world() -> World:
    return World()


def bootstrap(world: World) -> str:
    answer = world.send("POST", "/access/bootstrap")
    assert answer.status == 201
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json["secret"])


def test_bootstrap_switches_access_control_on(world: World) -> None:
    world.register()
    assert world.send("GET", "/access/self").json["restricted"] is False
    root = bootstrap(world)
    refused = world.send("GET", "/services/web/instances")
    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert world.send("GET", "/services/web/instances", x_townhall_token=root).status == 200
    assert world.send("GET", "/services/web/instances", authorization=f"bearer {root}").status == 200
    assert world.send("GET", "/services/web/instances", x_townhall_token="wrong").status == 401
    assert world.send("POST", "/access/bootstrap", x_townhall_token=root).status == 409
    assert world.send("GET", "/access/self", x_townhall_token=root).json["management"] is True


def test_policies_and_tokens_decide_what_may_be_done(world: World) -> None:
    root = bootstrap(world)
    rules = [
        {"resource": "service", "level": "write", "name": "default/default/web"},
        {"resource": "key", "level": "read", "name": "native/a/"},
    ]
    policy = world.send("PUT", "/access/policies/web", {"rules": rules, "description": "d"}, x_townhall_token=root)
    assert policy.status == 200
    assert policy.json["rules"][0] == rules[0] | {"prefix": True}
    made = world.send("POST", "/access/tokens", {"policies": ["web"], "ttl_ms": 60_000}, x_townhall_token=root)
    assert made.status == 201
    secret, token_id = made.json["secret"], made.json["id"]
    item = {"service": "web", "address": "127.0.0.1", "port": 1}
    assert world.send("POST", "/instances", item, x_townhall_token=secret).status == 201
    denied = world.send("POST", "/instances", item | {"service": "db"}, x_townhall_token=secret)
    assert denied.status == 403
    assert denied.json["code"] == "denied"
    assert world.send("GET", "/kv/a/x", x_townhall_token=secret).status == 404
    assert world.send("PUT", "/kv/a/x", b"1", x_townhall_token=secret).status == 403
    assert world.send("GET", "/kv/b", x_townhall_token=secret).status == 403
    assert world.send("GET", "/status", x_townhall_token=secret).status == 403
    assert world.send("GET", "/services/db/subscribers", x_townhall_token=secret).status == 403
    assert world.send("GET", "/watch?service=db", x_townhall_token=secret).status == 403
    assert [rule["level"] for rule in world.send("GET", "/access/self", x_townhall_token=secret).json["rules"]] == [
        "write",
        "read",
    ]
    assert world.send("GET", "/access/tokens", x_townhall_token=secret).status == 403
    world.now += 60_000
    assert world.send("GET", "/services/web/instances", x_townhall_token=secret).status == 401
    assert world.send("DELETE", f"/access/tokens/{token_id}", x_townhall_token=root).status == 204


def test_tokens(world: World) -> None:
    root = bootstrap(world)
    world.send("PUT", "/access/policies/p", {"rules": []}, x_townhall_token=root)
    made = world.send("POST", "/access/tokens", {"description": "one"}, x_townhall_token=root).json
    shown = world.send("GET", f"/access/tokens/{made['id']}", x_townhall_token=root).json
    assert shown["description"] == "one"
    assert "secret" not in shown
    assert "secret_hash" not in shown
    changed = world.send("PUT", f"/access/tokens/{made['id']}", {"policies": ["p"]}, x_townhall_token=root)
    assert changed.json["policies"] == ["p"]
    assert "secret" not in changed.json
    listed = world.send("GET", "/access/tokens", x_townhall_token=root).json["tokens"]
    assert made["id"] in {token["id"] for token in listed}
    assert world.send("GET", "/access/tokens/nobody", x_townhall_token=root).status == 404
    assert world.send("DELETE", "/access/tokens/nobody", x_townhall_token=root).status == 404
    (first,) = [token for token in listed if token["management"]]
    assert world.send("DELETE", f"/access/tokens/{first['id']}", x_townhall_token=root).status == 409


def test_policies(world: World) -> None:
    assert world.send("GET", "/access/policies").json == {"policies": []}
    rule = {"resource": "operator", "level": "deny", "prefix": False}
    world.send("PUT", "/access/policies/p", {"rules": [rule]})
    (policy,) = world.send("GET", "/access/policies").json["policies"]
    assert policy["rules"] == [rule | {"name": ""}]
    assert world.send("DELETE", "/access/policies/p").status == 204
    assert world.send("DELETE", "/access/policies/p").status == 404


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", "/access/policies/p", {}),
        ("PUT", "/access/policies/p", {"rules": [{"resource": "service", "level": "own"}]}),
        ("PUT", "/access/policies/p", {"rules": [{"resource": "house", "level": "read"}]}),
        ("PUT", "/access/policies/p", {"rules": [{"resource": "key", "level": "read", "zork": 1}]}),
        ("PUT", "/access/policies/%00", {"rules": []}),
        ("POST", "/access/tokens", {"policies": "p"}),
        ("POST", "/access/tokens", {"policies": [""]}),
        ("POST", "/access/tokens", {"ttl_ms": -1}),
        ("POST", "/access/tokens", {"secret": "short"}),
        ("POST", "/access/bootstrap", {"id": 1}),
    ],
)
def test_bad_requests_change_nothing(world: World, method: str, target: str, body: object) -> None:
    assert world.send(method, target, body).status == 400
    assert world.state.position == 0


def test_views_keep_the_secret_to_themselves() -> None:
    shown = token_view(Token("t", b"hash", ("p",), "d", 1, 2))
    assert (shown.id, shown.expires_at) == ("t", 2)
    assert "hash" not in repr(shown)
    (rule,) = policy_view(Policy("p", (Rule(Resource.KEY, Level.DENY, "x", False),))).rules
    assert rule == {"resource": "key", "level": "deny", "name": "x", "prefix": False}


def limited(world: World, *rules: dict[str, str]) -> tuple[str, str]:
    """Access control on: (a management token, one with these rules)."""
    root = bootstrap(world)
    world.send("PUT", "/access/policies/limited", {"rules": list(rules)}, x_townhall_token=root)
    made = world.send("POST", "/access/tokens", {"policies": ["limited"]}, x_townhall_token=root)
    return root, str(made.json["secret"])


def test_a_renewal_takes_the_right_to_write_what_hangs_on_the_lease(world: World) -> None:
    mine = world.register(service="web")["lease"]
    other = world.register(service="db")["lease"]
    _, secret = limited(world, {"resource": "service", "level": "write", "name": "default/default/web"})
    assert world.send("PUT", f"/leases/{mine}", x_townhall_token=secret).status == 200
    assert world.send("POST", "/renew", {"leases": [mine, "99"]}, x_townhall_token=secret).json["unknown"] == ["99"]
    world.deadlines.clear()
    assert world.send("PUT", f"/leases/{other}", x_townhall_token=secret).status == 403
    assert world.send("POST", "/renew", {"leases": [mine, other]}, x_townhall_token=secret).status == 403
    assert world.send("PUT", f"/leases/{mine}").status == 401
    assert world.send("POST", "/renew", {"leases": [mine]}).status == 401
    assert world.deadlines == {}


def test_a_lock_that_may_not_be_read_does_not_look_free(world: World) -> None:
    lease = world.send("POST", "/leases", {"kind": "keys"}).json["lease"]
    world.send("POST", "/locks/build", {"lease": lease, "value": "me"})
    world.send("POST", "/elections/boss", {"lease": lease, "value": "me"})
    root, secret = limited(world, {"resource": "key", "level": "read", "name": "native/locks/build/"})
    assert world.send("GET", "/locks/build", x_townhall_token=secret).json["holder"]["value"] == "me"
    assert world.send("GET", "/locks/build").status == 401
    for path in ("/locks/other", "/elections/boss", "/elections/boss?watch=1"):
        assert world.send("GET", path, x_townhall_token=secret).status == 403
        assert world.send("GET", path).status == 401
    assert world.send("GET", "/elections/boss", x_townhall_token=root).json["holder"]["value"] == "me"


def test_lists_ask_for_a_token_instead_of_looking_empty(world: World) -> None:
    world.register()
    _, secret = limited(world, {"resource": "service", "level": "read", "name": "default/other/"})
    for path in ("/services", "/kv?prefix=a", "/kv?prefix=a&watch=1"):
        assert world.send("GET", path).status == 401
    assert world.send("GET", "/services", x_townhall_token=secret).json["services"] == []


def test_acknowledging_takes_the_right_to_watch(world: World) -> None:
    _, secret = limited(world, {"resource": "service", "level": "read", "name": "default/default/web"})
    assert world.send("POST", "/watch/s1/ack", {"services": {"web": 1}}, x_townhall_token=secret).status == 404
    assert world.send("POST", "/watch/s1/ack", {"services": {"db": 1}}, x_townhall_token=secret).status == 403
    assert world.send("POST", "/watch/s1/ack", {"services": {"web": 1}}).status == 401
