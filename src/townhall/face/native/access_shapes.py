"""The JSON objects about tokens, policies and the registry itself; see ``shapes``."""

from __future__ import annotations

from typing import Any

from townhall.face.native.shapes import Body, Milliseconds, Shown
from townhall.model.access import Resource

__all__ = [
    "PoliciesView", "PolicyBody", "PolicyView", "RuleView", "SelfView", "TokenBody", "TokenSecretView", "TokenView",
    "TokensView", "VersionView",
]  # fmt: skip


class RuleView(Body, frozen=True, kw_only=True):
    """One right. ``prefix``: for all names that begin with ``name``."""

    resource: Resource
    level: str
    name: str = ""
    prefix: bool = True


class PolicyBody(Body, frozen=True, kw_only=True):
    """The rules of a policy."""

    rules: tuple[RuleView, ...]
    description: str = ""


class PolicyView(Shown, frozen=True, kw_only=True):
    """A named set of rules."""

    name: str
    rules: list[dict[str, Any]]
    description: str
    revision: int


class PoliciesView(Shown, frozen=True, kw_only=True):
    """All policies."""

    policies: list[PolicyView]


class TokenBody(Body, frozen=True, kw_only=True):
    """A token to make or to change."""

    policies: tuple[str, ...] = ()
    description: str = ""
    ttl_ms: Milliseconds = 0
    management: bool = False
    secret: str = ""


class TokenView(Shown, frozen=True, kw_only=True):
    """A token, without its secret."""

    id: str
    policies: tuple[str, ...]
    description: str
    created_at: int
    expires_at: int
    management: bool
    revision: int


class TokenSecretView(Shown, frozen=True, kw_only=True):
    """A new token; the secret is shown this once."""

    id: str
    secret: str
    policies: tuple[str, ...]
    description: str
    created_at: int
    expires_at: int
    management: bool


class TokensView(Shown, frozen=True, kw_only=True):
    """All tokens."""

    tokens: list[TokenView]


class SelfView(Shown, frozen=True, kw_only=True):
    """Who the request came from and what it may do."""

    id: str
    management: bool
    restricted: bool
    address: str
    rules: list[dict[str, Any]]


class VersionView(Shown, frozen=True, kw_only=True):
    """What this is."""

    name: str
    version: str
    protocol: str
