"""Who is asking and what they may do: the one place where rights are judged.

The longest rule that matches a name decides; among the longest DENY wins, otherwise the highest level. What no rule
matches is denied. While access control is off everybody may do everything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NoReturn

from townhall.core import Rules
from townhall.core.keyspace import TO_THE_END
from townhall.core.state import State
from townhall.model import limits
from townhall.model.access import ANONYMOUS, Actor, Level, Resource, Rule, Token
from townhall.model.errors import Denied, Unauthenticated
from townhall.model.instance import ServiceKey

__all__ = [
    "allowed", "allowed_range", "enforced", "granted", "hash_secret", "key_name", "refuse", "resolve", "service_name",
    "space_end",
]  # fmt: skip


def hash_secret(secret: str) -> bytes:
    """What is stored of a secret. Secrets are long and random, so a fast hash is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def enforced(state: State, rules: Rules) -> bool:
    """Whether tokens are needed: switched on in the state for good, or by this node's configuration."""
    return state.access_enabled or rules.access_required


def resolve(state: State, rules: Rules, *, secret: str, address: str, now_ms: int) -> Actor:
    """The actor behind a secret; '' is anonymous. Raises Unauthenticated for an unknown or expired one.

    While access control is off an unknown secret is anonymous too: clients may be given tokens before it is on.
    """
    needed = enforced(state, rules)
    everybody = state.tokens.get(ANONYMOUS)
    anonymous = Actor(rules=_rights(state, everybody) if everybody else (), address=address, restricted=needed)
    if not secret:
        return anonymous
    token_id = state.secrets.get(hash_secret(secret)) if len(secret) <= limits.TOKEN_SECRET_SIZE_MAX else None
    token = state.tokens.get(token_id) if token_id is not None else None
    if token is None:
        if needed:
            raise Unauthenticated("unknown token", advice="ask an operator for a token")
        return anonymous
    if token.expires_at and token.expires_at <= now_ms:
        if needed:
            raise Unauthenticated("the token has expired", advice="ask an operator for a new one", token=token.id)
        return anonymous
    return Actor(token.id, _rights(state, token), token.management, internal=False, address=address, restricted=needed)


def _rights(state: State, token: Token) -> tuple[Rule, ...]:
    return (*token.rules, *granted(state, policies=token.policies, roles=token.roles))


def granted(state: State, *, policies: Iterable[str], roles: Iterable[str] = ()) -> tuple[Rule, ...]:
    """The rules of policies and of roles with their policies; names of what is gone grant nothing."""
    found: list[Rule] = []
    named = list(policies)
    for name in roles:
        role = state.roles.get(name)
        if role is not None:
            found.extend(role.rules)
            named.extend(role.policies)
    for name in dict.fromkeys(named):
        policy = state.policies.get(name)
        if policy is not None:
            found.extend(policy.rules)
    return tuple(found)


def allowed(actor: Actor, resource: Resource, level: Level, name: str) -> bool:
    """Whether the actor's rules allow ``level`` on this name (access control taken to be on)."""
    if actor.management or actor.internal:
        return True
    size = -1
    best = Level.DENY
    for rule in actor.rules:
        if rule.resource is not resource or (rule.only and rule.level is not level):
            continue
        length = 0 if rule.end else len(rule.name)
        if length < size or not _matches(rule, name):
            continue
        if length > size:
            size, best = length, rule.level
        elif best is not Level.DENY:
            best = Level.DENY if rule.level is Level.DENY else max(best, rule.level)
    return best is not Level.DENY and best >= level


def _matches(rule: Rule, name: str) -> bool:
    if rule.end:
        return rule.name <= name < rule.end
    return name.startswith(rule.name) if rule.prefix else name == rule.name


def allowed_range(actor: Actor, resource: Resource, level: Level, start: str, end: str) -> bool:
    """Whether ``level`` is allowed on every name of ``[start, end)``.

    What is allowed can differ only between one side of a rule's border and the other, so it is enough to ask at the
    start and at each border within the range.
    """
    if actor.management or actor.internal:
        return True
    borders = {start}
    for rule in actor.rules:
        if rule.resource is resource:
            beyond = rule.end or (_after_prefix(rule.name) if rule.prefix else rule.name + "\0")
            borders.update(border for border in (rule.name, beyond) if start < border < end)
    return all(allowed(actor, resource, level, border) for border in sorted(borders))


def _after_prefix(prefix: str) -> str:
    """The first text after all that begin with the prefix; '' when there is none. U+10FFFF cannot be raised."""
    stem = prefix.rstrip("\U0010ffff")
    return stem[:-1] + chr(ord(stem[-1]) + 1) if stem else ""


def refuse(actor: Actor, resource: Resource, level: Level, name: str) -> NoReturn:
    """Raise what a missing right is told with: Unauthenticated without a token, Denied with one."""
    right = level.name.lower()
    what = f"{resource.value} {name!r}" if name else f"what is the {resource.value}'s"
    if not actor.token_id:
        raise Unauthenticated(
            f"a token is needed to {right} {what}",
            advice="present a token",
            right=right,
            resource=f"{resource.value}:{name}",
        )
    raise Denied(
        f"the token may not {right} {what}",
        advice="ask an operator for a policy that allows it",
        right=right,
        resource=f"{resource.value}:{name}",
    )


def service_name(key: ServiceKey) -> str:
    """How rules name a service."""
    return f"{key.namespace}/{key.group}/{key.name}"


def space_end(space: str, end: bytes) -> str:
    """The name before which the keys of a range end; TO_THE_END means all of the space ('0' follows '/')."""
    return f"{space}0" if end == TO_THE_END else key_name(space, end)


def key_name(space: str, key: bytes) -> str:
    """How rules name a key: its bytes read as Latin-1, so that texts order as the keys do."""
    return f"{space}/{key.decode('latin-1')}"
