"""Tokens and policies. Who may do this is decided in the core, as everywhere."""

from __future__ import annotations

from typing import Any

from townhall.core import Outcome
from townhall.core.commands import BootstrapAccess, DeletePolicy, DeleteToken, PutPolicy, PutToken
from townhall.core.queries import Reader
from townhall.face import Reply, Request, Verb
from townhall.face.native import outcomes
from townhall.face.native.access_shapes import (
    PoliciesView,
    PolicyBody,
    PolicyView,
    RuleView,
    SelfView,
    TokenBody,
    TokenSecretView,
    TokensView,
    TokenView,
)
from townhall.face.native.operations import Operation
from townhall.face.native.rendering import reply
from townhall.model import limits, names
from townhall.model.access import Level, Policy, Rule, Token
from townhall.model.errors import InvalidField, NotFound
from townhall.wire.strict_json import Strict

__all__ = ["operations", "policy_view", "token_view"]

_TOKEN: Strict[TokenBody] = Strict(TokenBody)
_POLICY: Strict[PolicyBody] = Strict(PolicyBody)
_LEVELS = {"deny": Level.DENY, "read": Level.READ, "write": Level.WRITE}
_WORDS = {level: word for word, level in _LEVELS.items()}


def operations() -> list[Operation]:
    """The rows of the table."""
    tag = "access"
    token, policy = "/access/tokens/{id}", "/access/policies/{name}"
    return [
        Operation(
            method="POST", path="/access/bootstrap", handler=bootstrap, tag=tag, answers={201: TokenSecretView},
            summary="Switch access control on and make the first token, once", refusals=(409,),
        ),
        Operation(
            method="GET", path="/access/self", handler=who, summary="Who this request comes from", tag=tag,
            answers={200: SelfView},
        ),
        Operation(
            method="GET", path="/access/tokens", handler=tokens, summary="All tokens", tag=tag, answers={200: TokensView}
        ),
        Operation(
            method="POST", path="/access/tokens", handler=create_token, summary="Make a token", tag=tag, body=TokenBody,
            answers={201: TokenSecretView}, refusals=(404, 409, 429),
        ),
        Operation(
            method="GET", path=token, handler=get_token, summary="One token", tag=tag, answers={200: TokenView},
            refusals=(404,),
        ),
        Operation(
            method="PUT", path=token, handler=put_token, summary="Change a token; its secret stays", tag=tag,
            body=TokenBody, answers={200: TokenView}, refusals=(404, 409),
        ),
        Operation(
            method="DELETE", path=token, handler=delete_token, summary="Revoke a token", tag=tag, answers={204: None},
            refusals=(404, 409),
        ),
        Operation(
            method="GET", path="/access/policies", handler=policies, summary="All policies", tag=tag,
            answers={200: PoliciesView},
        ),
        Operation(
            method="PUT", path=policy, handler=put_policy, summary="Make or replace a policy", tag=tag, body=PolicyBody,
            answers={200: PolicyView}, refusals=(429,),
        ),
        Operation(
            method="DELETE", path=policy, handler=delete_policy, summary="Remove a policy", tag=tag,
            answers={204: None}, refusals=(404,),
        ),
    ]  # fmt: skip


def bootstrap(request: Request, reader: Reader) -> Verb:
    """Once, when access control is still off."""
    return outcomes.submit(BootstrapAccess(), _with_secret)


def _with_secret(reader: Reader, outcome: Outcome) -> Reply:
    token, secret = _made(outcome)
    view = TokenSecretView(
        id=token.id, secret=secret, policies=token.policies, description=token.description,
        created_at=token.created_at, expires_at=token.expires_at, management=token.management,
    )  # fmt: skip
    return reply(reader, view, 201, ((b"cache-control", b"no-store"),))


def _made(outcome: Outcome) -> tuple[Token, str]:
    result = outcome.result
    assert isinstance(result, tuple)
    token, secret = result
    assert isinstance(token, Token)
    assert isinstance(secret, str)
    return token, secret


def who(request: Request, reader: Reader) -> Verb:
    """The token behind this request and its rights."""
    actor = request.actor
    view = SelfView(
        id=actor.token_id,
        management=actor.management,
        restricted=actor.restricted,
        address=actor.address,
        rules=[_rule_view(rule) for rule in actor.rules],
    )
    return reply(reader, view)


def _rule_view(rule: Rule) -> dict[str, Any]:
    return {
        "resource": str(rule.resource),
        "level": _WORDS[rule.level],
        "name": rule.name,
        "prefix": rule.prefix,
    }


# --- tokens


def tokens(request: Request, reader: Reader) -> Verb:
    """All tokens, without their secrets."""
    return reply(reader, TokensView(tokens=[token_view(token) for token in reader.tokens()]))


def token_view(token: Token) -> TokenView:
    """A token as it is shown."""
    return TokenView(
        id=token.id, policies=token.policies, description=token.description, created_at=token.created_at,
        expires_at=token.expires_at, management=token.management, revision=token.revision,
    )  # fmt: skip


def get_token(request: Request, reader: Reader) -> Verb:
    """One token."""
    wanted = request.segments["id"]
    found = next((token for token in reader.tokens() if token.id == wanted), None)
    if found is None:
        raise NotFound(f"no token {wanted[:64]!r}", token=wanted[:64])
    return reply(reader, token_view(found))


def create_token(request: Request, reader: Reader) -> Verb:
    """A new token."""
    return outcomes.submit(_token_command(request.body or b"{}", ""), _with_secret)


def put_token(request: Request, reader: Reader) -> Verb:
    """What is not given takes its default: this replaces."""
    command = _token_command(request.body, request.segments["id"])
    return outcomes.submit(command, lambda reader, outcome: reply(reader, token_view(_made(outcome)[0])))


def _token_command(content: bytes, token_id: str) -> PutToken:
    body = _TOKEN.decode(content)
    return PutToken(
        id=token_id,
        policies=tuple(names.label(name, f"policies[{index}]") for index, name in enumerate(body.policies)),
        description=names.text(body.description, "description", size_max=limits.REASON_SIZE_MAX),
        ttl_ms=body.ttl_ms,
        management=body.management,
        secret=body.secret,
    )


def delete_token(request: Request, reader: Reader) -> Verb:
    """Revoke one."""
    return outcomes.submit(DeleteToken(id=request.segments["id"]), outcomes.done)


# --- policies


def policies(request: Request, reader: Reader) -> Verb:
    """All policies."""
    return reply(reader, PoliciesView(policies=[policy_view(policy) for policy in reader.policies()]))


def policy_view(policy: Policy) -> PolicyView:
    """A policy as it is shown."""
    return PolicyView(
        name=policy.name,
        rules=[_rule_view(rule) for rule in policy.rules],
        description=policy.description,
        revision=policy.revision,
    )


def put_policy(request: Request, reader: Reader) -> Verb:
    """Make or replace one."""
    body = _POLICY.decode(request.body)
    command = PutPolicy(
        name=names.label(request.segments["name"], "name"),
        rules=tuple(_rule(rule, f"rules[{index}]") for index, rule in enumerate(body.rules)),
        description=names.text(body.description, "description", size_max=limits.REASON_SIZE_MAX),
    )

    def render(reader: Reader, outcome: Outcome) -> Reply:
        policy = outcome.result
        assert isinstance(policy, Policy)
        return reply(reader, policy_view(policy))

    return outcomes.submit(command, render)


def _rule(body: RuleView, path: str) -> Rule:
    level = _LEVELS.get(body.level)
    if level is None:
        raise InvalidField(f"{path}.level", f"must be one of {', '.join(_LEVELS)}")
    name = names.text(body.name, f"{path}.name", size_max=limits.KEY_SIZE_MAX)
    return Rule(body.resource, level, name, body.prefix)


def delete_policy(request: Request, reader: Reader) -> Verb:
    """Remove one."""
    return outcomes.submit(DeletePolicy(name=request.segments["name"]), outcomes.done)
