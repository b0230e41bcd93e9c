"""Access control: rights over resources, rules, policies, tokens and who is asking."""

from __future__ import annotations

import enum

import msgspec

__all__ = ["ANONYMOUS", "Actor", "Level", "Policy", "Resource", "Role", "Rule", "Token"]

ANONYMOUS = "anonymous"
"""Id of the token, when there is one, whose rights everybody has who presents none."""


class Resource(enum.StrEnum):
    """What a rule is about. Names of services are matched as ``namespace/group/name``."""

    SERVICE = "service"
    KEY = "key"
    """Names are ``space/key``; the key's bytes are read as Latin-1, one character a byte."""
    SESSION = "session"
    NODE = "node"
    """Nodes by their name, and the checks of whole nodes."""
    AGENT = "agent"
    """Status, metrics, reload, maintenance of nodes."""
    OPERATOR = "operator"
    """Tokens, policies, backup, restore, settings of the registry."""


class Level(enum.IntEnum):
    """What may be done. A longer (more exact) rule wins over a shorter one; at equal length DENY wins."""

    DENY = 0
    READ = 1
    WRITE = 2


class Rule(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """``level`` on everything of ``resource`` whose name is ``name`` (or starts with it, when ``prefix``)."""

    resource: Resource
    level: Level
    name: str = ""
    prefix: bool = True
    end: str = ""
    """About the names ``[name, end)`` instead. Ranges add up: all of them count as the shortest of rules."""
    only: bool = False
    """This level alone: a WRITE that brings no READ."""


class Policy(msgspec.Struct, frozen=True, gc=False):
    """A named set of rules."""

    name: str
    rules: tuple[Rule, ...]
    description: str = ""
    revision: int = 0
    extra: dict[str, str] = {}
    """What only one face needs to keep with it, such as the text that the rules were written in."""


class Role(msgspec.Struct, frozen=True, gc=False):
    """A named set of policies, for tokens to have together; ``rules`` are its own beside theirs."""

    name: str
    policies: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    description: str = ""
    revision: int = 0
    extra: dict[str, str] = {}
    """See ``Policy.extra``."""


class Token(msgspec.Struct, frozen=True, gc=False):
    """A token; the secret is known only as its SHA-256 (secrets are random and long, so no slow hash is needed)."""

    id: str
    secret_hash: bytes
    policies: tuple[str, ...]
    description: str = ""
    created_at: int = 0
    expires_at: int = 0
    """Unix milliseconds; 0 never."""
    management: bool = False
    """May do everything."""
    revision: int = 0
    roles: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    """Its own, beside those of its policies and roles."""
    extra: dict[str, str] = {}
    """See ``Policy.extra``."""


class Actor(msgspec.Struct, frozen=True, gc=False):
    """Who asks: resolved from a token by ``core.access``. Faces pass it on and never look inside."""

    token_id: str = ""
    rules: tuple[Rule, ...] = ()
    management: bool = False
    internal: bool = False
    """The registry itself (expiry, sweeps)."""
    address: str = ""
    """Where the request came from, ``host:port``."""
    restricted: bool = False
    """Configuration demands tokens, whatever the state says: only what the rules allow is allowed."""
    user: tuple[str, str] = ("", "")
    """(space, name) of the user of a guarded space, when that is who asks."""
