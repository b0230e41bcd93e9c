"""What facts about tokens and policies do to the state."""

from __future__ import annotations

from msgspec.structs import replace

from townhall.core import Changes, facts
from townhall.core.state import State

__all__ = ["access_enabled", "policy_deleted", "policy_put", "role_deleted", "role_put", "token_deleted", "token_put"]


def access_enabled(state: State, fact: facts.AccessEnabled, changes: Changes) -> None:
    """Tokens are needed from now on."""
    state.access_enabled = True
    changes.access = True


def token_put(state: State, fact: facts.TokenPut, changes: Changes) -> None:
    """A token was made or changed; its old secret is not valid any more."""
    token = replace(fact.token, revision=state.position)
    before = state.tokens.get(token.id)
    if before is not None:
        state.secrets.pop(before.secret_hash, None)
    state.tokens[token.id] = token
    state.secrets[token.secret_hash] = token.id
    changes.access = True


def token_deleted(state: State, fact: facts.TokenDeleted, changes: Changes) -> None:
    """A token was revoked."""
    before = state.tokens.pop(fact.id, None)
    if before is not None:
        state.secrets.pop(before.secret_hash, None)
        changes.access = True


def policy_put(state: State, fact: facts.PolicyPut, changes: Changes) -> None:
    """A policy was made or replaced."""
    state.policies[fact.policy.name] = replace(fact.policy, revision=state.position)
    changes.access = True


def policy_deleted(state: State, fact: facts.PolicyDeleted, changes: Changes) -> None:
    """A policy was removed; tokens that name it lose its rights."""
    if state.policies.pop(fact.name, None) is not None:
        changes.access = True


def role_put(state: State, fact: facts.RolePut, changes: Changes) -> None:
    """A role was made or replaced."""
    state.roles[fact.role.name] = replace(fact.role, revision=state.position)
    changes.access = True


def role_deleted(state: State, fact: facts.RoleDeleted, changes: Changes) -> None:
    """A role was removed; tokens that name it lose its rights."""
    if state.roles.pop(fact.name, None) is not None:
        changes.access = True
