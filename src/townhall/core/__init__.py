"""The pure heart: commands in, facts out, facts into state, state into answers.

* ``decide(state, command, context) -> Decision | TownhallError`` holds all rules, guards and limits. It changes
  nothing and reads no clock.
* ``evolve(state, commit) -> Changes`` is total: it never refuses, and does all the fan-out.
* ``queries.Reader`` is the only way to read: every query checks the actor's rights.
* ``footprint(command, state)`` names what a decision depends on and touches. The hub decides a command in the
  current group only when its footprint meets nobody else's in that group, so that deciding side by side gives the
  same as deciding one after the other (docs/decisions/0002). ``core.claims.Claims`` collects the footprints of a
  group: ``if not claims.admit(footprint): close the group``. Claims meet when they are equal, when ranges of keys
  overlap, and never when both are ``Shared``.
* Some answers hold numbers that only ``evolve`` gives (the revision of a key just written). Such a ``Decision.result``
  is ``Unsettled``, and the hub settles it with the commit's changes before it answers:
  ``result.settle(changes) if isinstance(result, Unsettled) else result``.

Nothing here is asynchronous, and nothing here reads a clock, draws a random number, logs or does I/O.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, Protocol

import msgspec

from townhall.core.commands import Command
from townhall.core.facts import Commit, Fact
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.instance import ServiceKey

__all__ = [
    "EVERYTHING",
    "Changes",
    "Command",
    "Commit",
    "Context",
    "Decision",
    "Fact",
    "Footprint",
    "Ids",
    "Interest",
    "KeyRange",
    "Outcome",
    "Rules",
    "Shared",
    "Unsettled",
    "View",
]  # fmt: skip


class Ids(Protocol):
    """Where new names come from; drawn by the hub, seeded in the simulation."""

    def lease_id(self) -> int:
        """A positive 63-bit number that is not in use, as far as chance goes."""
        ...

    def secret(self) -> str:
        """An unguessable text of at least 128 bits."""
        ...

    def name(self) -> str:
        """A unique text (UUID form) for tokens and sessions."""
        ...


class Rules(msgspec.Struct, frozen=True):
    """What configuration may change about decisions; the defaults and their reasons are in ``model.limits``."""

    lease_ttl_min_ms: int = limits.LEASE_TTL_MIN_MS
    lease_ttl_default_ms: int = limits.LEASE_TTL_DEFAULT_MS
    eviction_grace_ttls: float = limits.EVICTION_GRACE_TTLS
    floor_instances_min: int = limits.FLOOR_INSTANCES_MIN
    floor_window_ms: int = limits.FLOOR_WINDOW_MS
    floor_hold_max_ms: int = limits.FLOOR_HOLD_MAX_MS
    registry_floor: float = limits.FLOOR_RATIO_DEFAULT
    """The same floor over all ephemeral instances of the registry; 0 switches it off."""
    registry_floor_instances_min: int = limits.FLOOR_REGISTRY_INSTANCES_MIN
    instances_count_max: int = limits.INSTANCES_COUNT_MAX
    services_count_max: int = limits.SERVICES_COUNT_MAX
    leases_count_max: int = limits.LEASES_COUNT_MAX
    space_size_max: int = limits.SPACE_SIZE_DEFAULT_MAX
    access_required: bool = False
    """Tokens are needed. ``BootstrapAccess`` switches them on for good in the state; this does from configuration."""


class Context(msgspec.Struct, frozen=True):
    """Everything a decision may know besides the state."""

    now_ms: int
    """Unix milliseconds, never backwards."""
    ids: Ids
    actor: Actor
    rules: Rules
    node: str
    """This node's name: owner of the leases it grants, and part of stamps."""


class Decision(msgspec.Struct, frozen=True):
    """Accepted. ``facts`` may be empty (nothing to change, or a read): then nothing is journaled."""

    facts: tuple[Fact, ...]
    result: object = None
    """What the command answers beyond its facts (values read by a transaction, a new secret). Never journaled. When
    it is ``Unsettled``, the outcome's result is ``result.settle(changes)``. A ``TownhallError`` refuses the command
    although its facts are journaled: they say why it was refused (an alarm was raised)."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a command: durable, and visible to every reader."""

    position: int
    """Journal position of its commit; the current one when it changed nothing."""
    time_ms: int
    facts: tuple[Fact, ...]
    result: object = None


class KeyRange(NamedTuple):
    """Keys ``[start, end)`` of a space; ``end`` b"" means just ``start``, NUL means to the last key."""

    space: str
    start: bytes
    end: bytes = b""


Interest = ServiceKey | KeyRange | tuple[str, Hashable]
"""What a cursor waits for: one service, a range of keys, ``("services", namespace)`` for the set of services of a
namespace ("" for all) with their counts, ``("lease", id)``, ``("drain", ServiceKey)`` for acknowledgements,
``("access", "")`` for tokens and policies, ``("sessions", "")`` for any session, ``("node", name)`` for a node with its checks and instances, ``("nodes", "")``
for the set of nodes and what is known of each, ``("checks", "")`` for any check. Compare and hash by value."""


class Shared(NamedTuple):
    """A claim of something that is only relied on (a lease that must live, a key that is read): meets a claim of the
    same thing that is not shared, but not another shared one.
    """

    claim: Hashable


Footprint = frozenset[Hashable]
"""Claims: ``KeyRange`` for keys (an exact key is one without ``end``), any other hashable for all else, each of them
in ``Shared`` when it is only relied on. ``core.claims.Claims`` says which ones meet."""
EVERYTHING: Footprint = frozenset({"*"})
"""The footprint of a command that must be decided alone."""


class Changes(msgspec.Struct, gc=False):
    """What one commit, or some in a row, changed, as far as anybody may wait for it. The hub hands it to the interest index."""

    position: int
    services: set[ServiceKey] = msgspec.field(default_factory=set)
    """Services with a changed instance or setting."""
    listings: set[str] = msgspec.field(default_factory=set)
    """Namespaces whose list of services, or a count in it, changed."""
    keys: list[tuple[str, bytes]] = msgspec.field(default_factory=list)
    """(space, key) of every key written or deleted, in order."""
    leases: set[int] = msgspec.field(default_factory=set)
    """Leases granted, ended, lapsed, recovered, or whose connection changed, and those with an instance whose drain
    began or was taken back: a session waits for its leases, not for every change of the services on them."""
    access: bool = False
    revisions: dict[str, int] = msgspec.field(default_factory=dict)
    """Space → the revision that the last write in it got."""
    firsts: dict[str, int] = msgspec.field(default_factory=dict)
    """Space → the revision that the first write in it got, of those that are in here."""
    sessions: bool = False
    """A session was opened or closed."""
    nodes: set[str] = msgspec.field(default_factory=set)
    """Nodes that changed, or on which an instance or a check did."""
    node_list: bool = False
    """A node itself was put or deleted."""
    checks: set[tuple[str, str]] = msgspec.field(default_factory=set)
    """(node, id) of the checks put, deleted or changed."""


class Unsettled(msgspec.Struct, frozen=True):
    """A result with numbers that only ``evolve`` can give."""

    def settle(self, changes: Changes) -> object:
        """The finished result; the command's own commit is the last one in ``changes``."""
        return self


class View(Protocol):
    """Validity of a rendered answer."""

    fresh: bool
