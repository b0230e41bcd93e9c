"""Decisions about tokens, policies and roles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from townhall.core import Context, Decision, commands, facts
from townhall.core.access import hash_secret
from townhall.core.state import State
from townhall.model import limits, names
from townhall.model.access import Policy, Role, Rule, Token
from townhall.model.errors import AlreadyExists, Conflict, Denied, InvalidField, NotFound, OverLimit

__all__ = [
    "bootstrap_access", "delete_policy", "delete_role", "delete_token", "put_policy", "put_role", "put_token",
]  # fmt: skip


def bootstrap_access(state: State, command: commands.BootstrapAccess, context: Context) -> Decision:
    """Switch access control on, once, with a first management token."""
    if state.access_enabled:
        raise Conflict("access control is on already", advice="use a management token")
    if context.rules.access_required and any(one.management and not one.expires_at for one in state.tokens.values()):
        # Configuration has switched it on and given a management token out; nobody may come and draw another.
        raise Conflict("there is a management token already", advice="use that")
    secret = context.ids.secret()
    token = Token(
        context.ids.name(), hash_secret(secret), (), "first management token", context.now_ms, management=True
    )
    return Decision((facts.TokenPut(token), facts.AccessEnabled()), (token, secret))


def put_token(state: State, command: commands.PutToken, context: Context) -> Decision:
    """Make a token, or change one in place: its secret and its beginning stay."""
    _guard_token(state, command, context)
    existing = state.tokens.get(command.id) if command.id else None
    if command.id and existing is None:
        raise NotFound(f"no token {command.id!r}", token=command.id)
    if existing is not None and existing.management and (command.ttl_ms or not command.management):
        _keep_one_manager(state, existing)
    secret = ""
    if existing is None:
        secret = command.secret or context.ids.secret()
        secret_hash, created_at, token_id = hash_secret(secret), context.now_ms, command.new_id or context.ids.name()
        if token_id in state.tokens:
            raise AlreadyExists(f"token {token_id!r} exists", advice="choose another id", token=token_id)
        if secret_hash in state.secrets:
            raise AlreadyExists("another token has this secret", advice="choose another secret")
    else:
        secret_hash, created_at, token_id = existing.secret_hash, existing.created_at, existing.id
    kept = existing or Token(token_id, secret_hash, ())
    token = Token(
        token_id,
        secret_hash,
        command.policies,
        command.description,
        created_at,
        expires_at=context.now_ms + command.ttl_ms if command.ttl_ms else 0,
        management=command.management,
        roles=kept.roles if command.roles is None else command.roles,
        rules=kept.rules if command.rules is None else command.rules,
        extra=kept.extra if command.extra is None else command.extra,
    )
    return Decision((facts.TokenPut(token),), (token, secret))


def _guard_token(state: State, command: commands.PutToken, context: Context) -> None:
    if command.management and state.access_enabled and not (context.actor.management or context.actor.internal):
        raise Denied("only a management token may make another one", right="write", resource="operator:")
    roles = command.roles or ()
    if len(roles) > limits.TOKEN_ROLES_MAX:
        raise InvalidField("roles", f"{len(roles)} roles, at most {limits.TOKEN_ROLES_MAX}")
    _guard_rights(state, command.policies, command.rules or (), command.extra or {})
    for name in roles:
        if name not in state.roles:
            raise NotFound(f"no role {name!r}", advice="put the role first", role=name)
    if command.ttl_ms < 0:
        raise InvalidField("ttl", "must not be negative")
    size_min, size_max = limits.TOKEN_SECRET_SIZE_MIN, limits.TOKEN_SECRET_SIZE_MAX
    names.label(command.new_id, "new_id", empty=True)
    if command.new_id and command.id:
        raise InvalidField("new_id", "is for a new token only")
    if command.secret and command.id:
        raise InvalidField("secret", "cannot be changed", advice="make a new token and delete this one")
    if command.secret and not size_min <= len(command.secret) <= size_max:
        raise InvalidField("secret", f"must have {size_min} to {size_max} characters")
    if not command.id and len(state.tokens) >= limits.TOKENS_COUNT_MAX:
        raise OverLimit(f"there are {len(state.tokens)} tokens already", limit=limits.TOKENS_COUNT_MAX)


def _guard_rights(state: State, policies: Iterable[str], rules: Sequence[Rule], extra: dict[str, str]) -> None:
    """What tokens and roles have alike: policies that are there, rules of their own, and what a face keeps."""
    policies = tuple(policies)
    if len(policies) > limits.TOKEN_POLICIES_MAX:
        raise InvalidField("policies", f"{len(policies)} policies, at most {limits.TOKEN_POLICIES_MAX}")
    for name in policies:
        if name not in state.policies:
            raise NotFound(f"no policy {name!r}", advice="put the policy first", policy=name)
    _guard_rules(rules, extra)


def _guard_rules(rules: Sequence[Rule], extra: dict[str, str]) -> None:
    if len(rules) > limits.POLICY_RULES_MAX:
        raise InvalidField("rules", f"{len(rules)} rules, at most {limits.POLICY_RULES_MAX}")
    size = sum(len(name) + len(value) for name, value in extra.items())
    if size > limits.ACCESS_EXTRA_SIZE_MAX:
        raise InvalidField("extra", f"{size} characters, at most {limits.ACCESS_EXTRA_SIZE_MAX}")


def _guard_name(name: str) -> None:
    if not name or len(name) > limits.LABEL_SIZE_MAX:
        raise InvalidField("name", f"must have 1 to {limits.LABEL_SIZE_MAX} characters")


def _keep_one_manager(state: State, leaving: Token) -> None:
    """The last management token without an expiry cannot go: nobody could make another one."""
    if not state.access_enabled or leaving.expires_at:
        return
    if not any(token.management and not token.expires_at and token.id != leaving.id for token in state.tokens.values()):
        raise Conflict("this is the last management token", advice="make another one first", token=leaving.id)


def delete_token(state: State, command: commands.DeleteToken, context: Context) -> Decision:
    """Revoke a token."""
    existing = state.tokens.get(command.id)
    if existing is None:
        raise NotFound(f"no token {command.id!r}", token=command.id)
    if existing.management:
        _keep_one_manager(state, existing)
    return Decision((facts.TokenDeleted(command.id),))


def put_policy(state: State, command: commands.PutPolicy, context: Context) -> Decision:
    """Make or replace a policy."""
    _guard_name(command.name)
    _guard_rules(command.rules, command.extra)
    existing = state.policies.get(command.name)
    if existing is None and len(state.policies) >= limits.POLICIES_COUNT_MAX:
        raise OverLimit(f"there are {len(state.policies)} policies already", limit=limits.POLICIES_COUNT_MAX)
    policy = Policy(command.name, command.rules, command.description, extra=command.extra)
    if existing is not None and replace(existing, revision=0) == policy:
        return Decision((), existing)
    return Decision((facts.PolicyPut(policy),), policy)


def delete_policy(state: State, command: commands.DeletePolicy, context: Context) -> Decision:
    """Remove a policy."""
    if command.name not in state.policies:
        raise NotFound(f"no policy {command.name!r}", policy=command.name)
    return Decision((facts.PolicyDeleted(command.name),))


def put_role(state: State, command: commands.PutRole, context: Context) -> Decision:
    """Make or replace a role."""
    _guard_name(command.name)
    _guard_rights(state, command.policies, command.rules, command.extra)
    existing = state.roles.get(command.name)
    if existing is None and len(state.roles) >= limits.ROLES_COUNT_MAX:
        raise OverLimit(f"there are {len(state.roles)} roles already", limit=limits.ROLES_COUNT_MAX)
    role = Role(command.name, command.policies, command.rules, command.description, extra=command.extra)
    if existing is not None and replace(existing, revision=0) == role:
        return Decision((), existing)
    return Decision((facts.RolePut(role),), role)


def delete_role(state: State, command: commands.DeleteRole, context: Context) -> Decision:
    """Remove a role."""
    if command.name not in state.roles:
        raise NotFound(f"no role {command.name!r}", role=command.name)
    return Decision((facts.RoleDeleted(command.name),))
