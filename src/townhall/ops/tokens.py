"""Tokens and policies that a TOML file keeps in step: read at the start and again on SIGHUP.

::

    [policy.web]
    rules = [{ resource = "service", level = "write", name = "default/default/web", prefix = true }]

    [[token]]
    name = "deploy"
    secret = "a long random text"
    policies = ["web"]

``plan`` compares the file with the state and says which commands make them agree. Only what came from the file is
ever changed or removed by it: that is marked in the description.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from typing import Final

import msgspec

from townhall.core.access import hash_secret
from townhall.core.commands import Command, DeletePolicy, DeleteToken, PutPolicy, PutToken
from townhall.model import limits
from townhall.model.access import Level, Policy, Resource, Rule, Token
from townhall.ops.config import BadConfig

__all__ = ["TokensFile", "plan", "read_tokens_file"]

_MARK: Final = "tokens file: "
_LEVELS: Final = {"deny": Level.DENY, "read": Level.READ, "write": Level.WRITE}


class FileRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule."""

    resource: Resource
    level: str
    name: str = ""
    prefix: bool = True

    def rule(self) -> Rule:
        """As the core has it. Raises KeyError for an unknown level."""
        return Rule(self.resource, _LEVELS[self.level], self.name, self.prefix)


class FilePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One policy."""

    rules: tuple[FileRule, ...]


class FileToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One token; ``name`` tells it from the others of the file."""

    name: str
    secret: str
    policies: tuple[str, ...] = ()
    management: bool = False


class TokensFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    policy: dict[str, FilePolicy] = {}
    token: tuple[FileToken, ...] = ()


def read_tokens_file(path: str) -> tuple[TokensFile, list[str]]:
    """The file and warnings about it. Raises ``BadConfig`` when it cannot be used."""
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            found = msgspec.convert(tomllib.load(file), TokensFile)
    except OSError as error:
        raise BadConfig([f"access.tokens_file {path}: {error.strerror or error}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadConfig([f"access.tokens_file {path}: {error}"]) from error
    problems = list(_problems(found))
    if problems:
        raise BadConfig([f"access.tokens_file {path}: {problem}" for problem in problems])
    exposed = mode & 0o077
    return found, [f"{path} holds secrets and others may read it (mode {mode:o}); chmod 600 it"] if exposed else []


def plan(wanted: TokensFile, tokens: Mapping[str, Token], policies: Mapping[str, Policy]) -> list[Command]:
    """The commands that bring the state in step with the file, in the order in which they must be done."""
    commands: list[Command] = []
    for name, policy in wanted.policy.items():
        rules = tuple(rule.rule() for rule in policy.rules)
        standing = policies.get(name)
        if standing is None or standing.rules != rules:
            commands.append(PutPolicy(name=name, rules=rules, description=_MARK + name))
    by_mark = {token.description: token for token in tokens.values() if token.description.startswith(_MARK)}
    leaving: list[Command] = []
    for one in wanted.token:
        old = by_mark.pop(_MARK + one.name, None)
        if old is not None and old.secret_hash == hash_secret(one.secret):
            if (old.policies, old.management) != (one.policies, one.management):
                commands.append(_put(one, token_id=old.id))
            continue
        commands.append(_put(one))
        if old is not None:
            leaving.append(DeleteToken(id=old.id))
    leaving += [DeleteToken(id=token.id) for token in by_mark.values()]
    leaving += [
        DeletePolicy(name=name)
        for name, policy in policies.items()
        if policy.description.startswith(_MARK) and name not in wanted.policy
    ]
    return commands + leaving


def _put(token: FileToken, *, token_id: str = "") -> PutToken:
    return PutToken(
        id=token_id,
        policies=token.policies,
        description=_MARK + token.name,
        management=token.management,
        secret="" if token_id else token.secret,
    )


def _problems(found: TokensFile) -> list[str]:
    problems: list[str] = []
    names = [token.name for token in found.token]
    problems += [f"token {name!r} occurs twice" for name in sorted(set(names)) if names.count(name) > 1]
    if len({token.secret for token in found.token}) < len(names):
        problems.append("two tokens have the same secret")
    low, high = limits.TOKEN_SECRET_SIZE_MIN, limits.TOKEN_SECRET_SIZE_MAX
    for token in found.token:
        if not low <= len(token.secret) <= high:
            problems.append(f"token {token.name!r}: the secret must have {low} to {high} characters")
        problems += [
            f"token {token.name!r}: no policy {name!r} in this file"
            for name in token.policies
            if name not in found.policy
        ]
    for name, policy in found.policy.items():
        problems += [
            f"policy {name!r}: level {rule.level!r} is none of {', '.join(_LEVELS)}"
            for rule in policy.rules
            if rule.level not in _LEVELS
        ]
    return problems
