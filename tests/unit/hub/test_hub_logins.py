"""Tokens of users: what they are good for, and all that ends them; passwords that were found right."""

from __future__ import annotations

import pytest
from running_hub import Running, running, until

from townhall.core import Rules
from townhall.core import commands_guard as orders
from townhall.core.commands import ChangeGuard, PutToken
from townhall.hub.hub import HubOptions
from townhall.model import limits
from townhall.model.errors import Unauthenticated
from townhall.model.guard import ROOT


async def change(bench: Running, *given: orders.GuardOrder) -> None:
    for order in given:
        await bench.done(ChangeGuard(space="etcd", order=order))


async def guarded(bench: Running) -> None:
    await change(
        bench,
        orders.AddUser(ROOT, b"h"),
        orders.GrantRole(ROOT, ROOT),
        orders.AddUser("amy", b"h"),
        orders.SwitchGuard(True),
    )


def who(bench: Running, token: str) -> tuple[str, str]:
    actor = bench.hub.authenticate(token, "127.0.0.1:1")
    assert actor.address == "127.0.0.1:1"
    return actor.user


def test_a_token_is_its_user_until_something_ends_it() -> None:
    async def body(bench: Running) -> None:
        await guarded(bench)
        hub = bench.hub
        token = hub.login("etcd", "amy")
        secret, _, position = token.partition(".")
        assert len(secret) >= 22
        assert position == str(hub.state.position)
        assert who(bench, token) == ("etcd", "amy")
        assert who(bench, token + "x") == ("", ""), "unknown: nobody, while access control is off"
        await change(bench, orders.AddKeyRole("r"), orders.GrantRole("amy", "r"))
        assert who(bench, token) == ("etcd", "amy"), "a grant ends nothing"
        await change(bench, orders.ChangePassword("amy", b"n"))
        assert who(bench, token) == ("", "")
        again = hub.login("etcd", "amy")
        await change(bench, orders.DeleteUser("amy"))
        assert who(bench, again) == ("", "")
        root = hub.login("etcd", ROOT)
        await change(bench, orders.SwitchGuard(False), orders.SwitchGuard(True))
        assert who(bench, root) == ("", "")
        assert len(hub.logins) == 0, "what has ended is forgotten"

    running(body)


def test_a_token_lives_from_use_to_use() -> None:
    async def body(bench: Running) -> None:
        await guarded(bench)
        token = bench.hub.login("etcd", "amy")
        for _ in range(4):
            bench.clock.advance(limits.LOGIN_TTL_MS - 1)
            assert who(bench, token) == ("etcd", "amy")
        bench.clock.advance(limits.LOGIN_TTL_MS)
        assert who(bench, token) == ("", "")

    running(body)


def test_the_one_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOGINS_COUNT_MAX", 2)

    async def body(bench: Running) -> None:
        await guarded(bench)
        first, second = bench.hub.login("etcd", "amy"), bench.hub.login("etcd", ROOT)
        bench.clock.advance(limits.LOGIN_TTL_MS // 2)
        assert who(bench, first) == ("etcd", "amy")
        third = bench.hub.login("etcd", "amy")
        assert who(bench, second) == ("", "")
        assert who(bench, first) == who(bench, third) == ("etcd", "amy")

    running(body)


def test_with_access_control_on_an_unknown_token_is_refused() -> None:
    async def body(bench: Running) -> None:
        await guarded(bench)
        token = bench.hub.login("etcd", "amy")
        assert bench.hub.authenticate(token, "").restricted
        with pytest.raises(Unauthenticated):
            bench.hub.authenticate("nobody.1", "")
        outcome = await bench.done(PutToken(management=True))
        assert bench.hub.authenticate(outcome.result[1], "").management  # type: ignore[index]

    running(body, options=HubOptions(node="here", rules=Rules(access_required=True)))


def test_passwords() -> None:
    async def body(bench: Running) -> None:
        hub = bench.hub
        stored = hub.hash_password("secret", "127.0.0.1:5")
        await until(lambda: stored.done)
        wrong, right = (
            hub.check_password("wrong", stored.result, "127.0.0.1:5"),
            hub.check_password("secret", stored.result, "127.0.0.1:5"),
        )
        await until(lambda: right.done)
        assert (wrong.result, right.result) == (False, True)
        await until(lambda: hub.logins.recall("secret", stored.result))
        again = hub.check_password("secret", stored.result, "127.0.0.1:5")
        assert (again.done, again.result) == (True, True), "remembered"
        assert not hub.check_password("wrong", stored.result, "127.0.0.1:5").done
        assert b"secret" not in repr(vars(hub.logins)).encode()

    running(body)


def test_few_passwords_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PASSWORDS_REMEMBERED_MAX", 1)

    async def body(bench: Running) -> None:
        logins = bench.hub.logins
        logins.remember("a", b"1")
        logins.remember("b", b"2")
        assert not logins.recall("a", b"1")
        assert logins.recall("b", b"2")
        assert not logins.recall("a", b"2")

    running(body)


def test_a_certificate_names_a_user_while_no_token_is_presented() -> None:
    async def body(bench: Running) -> None:
        hub, cert = bench.hub, ("etcd", "amy")
        assert hub.authenticate("", "127.0.0.1:1", cert).user == ("", ""), "nobody asks while the guard is off"
        await guarded(bench)
        assert hub.authenticate("", "127.0.0.1:1", cert).user == cert
        assert hub.authenticate("", "127.0.0.1:1", ("etcd", "zoe")).user == ("", "")
        token = hub.login("etcd", ROOT)
        assert hub.authenticate(token, "127.0.0.1:1", cert).user == ("etcd", ROOT)
        assert hub.authenticate("bad.1", "127.0.0.1:1", cert).user == ("", ""), "a bad token is not made good"

    running(body)


class Signer:
    """Signs with nothing but the truth."""

    def sign(self, user: str, revision: int) -> str:
        return f"{user}:{revision}"

    def read(self, token: str) -> tuple[str, int] | None:
        user, found, revision = token.partition(":")
        return (user, int(revision)) if found else None


def test_signed_tokens_are_not_kept_and_grow_old_with_any_change() -> None:
    async def body(bench: Running) -> None:
        await guarded(bench)
        token = bench.hub.login("etcd", "amy")
        assert token == f"amy:{bench.hub.state.guards['etcd'].revision}"
        assert len(bench.hub.logins) == 0
        assert who(bench, token) == ("etcd", "amy")
        await change(bench, orders.AddKeyRole("r"))
        assert who(bench, token) == ("", "")
        assert who(bench, bench.hub.login("etcd", "amy")) == ("etcd", "amy")
        assert who(bench, "zoe:5") == who(bench, "no token") == ("", "")

    running(body, options=HubOptions(node="here", signers={"etcd": Signer()}))


def test_secrets_of_the_registrys_own_tokens_are_recognised() -> None:
    async def body(bench: Running) -> None:
        outcome = await bench.done(PutToken(ttl_ms=1_000))
        secret = outcome.result[1]  # type: ignore[index]
        assert bench.hub.recognises(secret)
        assert not bench.hub.recognises("")
        assert not bench.hub.recognises(secret + "x")
        bench.clock.advance(1_000)
        assert not bench.hub.recognises(secret)

    running(body)
