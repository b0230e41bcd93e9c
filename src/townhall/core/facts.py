"""Facts: what happened. Past tense; journaled; ``evolve`` applies each by one function in its table.

They store causes and leave effects to ``evolve``: "lease 7 ended" is one small fact that removes everything on it.
Every fact is an array with its tag first; fields are only ever appended, with defaults, so old journals stay
readable. An unknown tag stops the server with ``Damaged`` rather than being skipped.
"""

from __future__ import annotations

import msgspec

from townhall.core.facts_guard import GuardChange
from townhall.model.access import Policy, Role, Token
from townhall.model.check import Check, CheckStatus, Node
from townhall.model.instance import Instance, ServiceKey, ServiceSettings, Verdict
from townhall.model.lease import EndReason, LeaseKind, SessionBehavior
from townhall.model.tie import Tie

__all__ = [
    "AccessEnabled", "CheckChanged", "CheckDeleted", "CheckPut", "Commit", "Deregistered", "DrainCancelled",
    "DrainStarted", "Fact", "GuardChanged", "HoldReleased", "KeyDeleted", "KeyPut", "KeysWritten", "LayoutsSet", "LeaseConnectionChanged",
    "LeaseEnded", "LeaseGranted", "LeaseLapsed", "LeaseRecovered", "LeasesTakenOver", "MaintenanceSet", "NodeDeleted",
    "NodePut", "OverrideSet", "PolicyDeleted", "PolicyPut", "Registered", "Reported", "RoleDeleted", "RolePut",
    "ServiceDeleted", "ServicePut", "SessionClosed", "SessionOpened", "SpaceCompacted", "TokenDeleted", "TokenPut",
]  # fmt: skip


class Registered(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """An instance stands with this definition. ``evolve`` sets incarnation (when ``fresh``), revision, verdict, stamp.

    ``instance.evidence`` is ignored: fresh instances begin with none, others keep theirs.
    """

    instance: Instance
    fresh: bool


class Deregistered(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """An instance was removed deliberately (not counted against the floor)."""

    key: ServiceKey
    id: str


class OverrideSet(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The operator's word was given, or taken back (None)."""

    key: ServiceKey
    id: str
    verdict: Verdict | None
    reason: str = ""


class MaintenanceSet(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Maintenance began, or ended ("")."""

    key: ServiceKey
    id: str
    reason: str


class DrainStarted(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """A drain began; ``deadline`` is Unix milliseconds."""

    key: ServiceKey
    id: str
    deadline: int


class DrainCancelled(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """A drain was taken back."""

    key: ServiceKey
    id: str


class Reported(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Callers' reports crossed the threshold, or went quiet ("")."""

    key: ServiceKey
    id: str
    report: str


class ServicePut(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """A service exists in its own right, with this metadata and these settings."""

    key: ServiceKey
    metadata: dict[str, str]
    settings: ServiceSettings


class ServiceDeleted(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """A service was forgotten."""

    key: ServiceKey


class LeaseGranted(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A lease began, or (an id that exists) got another TTL."""

    id: int
    ttl_ms: int
    owner: str
    epoch: int
    kind: LeaseKind
    own: bool = False
    """For one registration alone, so it ends with it."""


class LeaseEnded(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """A lease ended: everything on it goes."""

    id: int
    reason: EndReason


class LeaseLapsed(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """A deadline passed: the lease's instances are SUSPECT, still callable when ``held`` by the floor."""

    id: int
    held: bool


class LeaseRecovered(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """A lapsed lease was renewed."""

    id: int


class LeaseConnectionChanged(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """The connection behind leases came up or broke unasked; ``held``: those of them the floor keeps callable."""

    ids: tuple[int, ...]
    up: bool
    held: tuple[int, ...] = ()


class HoldReleased(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """The floor need not hold this lease's instances any longer."""

    id: int


class LeasesTakenOver(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """``node`` owns all leases that ``owner`` had (all leases when ""), with their epochs raised by one."""

    owner: str
    node: str


class KeyPut(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """One key written, all values resolved."""

    key: bytes
    value: bytes
    lease: int = 0
    flags: int = 0
    session: str = ""
    lock_index: int = 0
    extra: bytes = b""


class KeyDeleted(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """One key deleted, or all of ``[key, end)``."""

    key: bytes
    end: bytes = b""


class KeysWritten(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """The writes of one transaction, in order; together they are one revision of their space."""

    space: str
    writes: tuple[KeyPut | KeyDeleted, ...]


class SpaceCompacted(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """History before ``revision`` is forgotten."""

    space: str
    revision: int


class SessionOpened(msgspec.Struct, frozen=True, array_like=True, tag=22):
    """A session began on ``lease`` (0: lives until closed)."""

    id: str
    name: str
    node: str
    lease: int
    behavior: SessionBehavior
    lock_delay_ms: int
    data: dict[str, str]
    checks: tuple[str, ...] = ()
    """Ids of checks on its node, see ``Session.checks``."""


class SessionClosed(msgspec.Struct, frozen=True, array_like=True, tag=23):
    """A session ended: its keys are released or deleted."""

    id: str


class AccessEnabled(msgspec.Struct, frozen=True, array_like=True, tag=30):
    """Tokens are needed from now on."""


class TokenPut(msgspec.Struct, frozen=True, array_like=True, tag=31):
    """A token was made or changed."""

    token: Token


class TokenDeleted(msgspec.Struct, frozen=True, array_like=True, tag=32):
    """A token was revoked."""

    id: str


class PolicyPut(msgspec.Struct, frozen=True, array_like=True, tag=33):
    """A policy was made or replaced."""

    policy: Policy


class PolicyDeleted(msgspec.Struct, frozen=True, array_like=True, tag=34):
    """A policy was removed."""

    name: str


class RolePut(msgspec.Struct, frozen=True, array_like=True, tag=35):
    """A role was made or replaced."""

    role: Role


class RoleDeleted(msgspec.Struct, frozen=True, array_like=True, tag=36):
    """A role was removed."""

    name: str


class NodePut(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """A node stands with this definition. ``evolve`` sets its revisions."""

    node: Node


class NodeDeleted(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """A node was forgotten: its checks and its instances go with it."""

    name: str


class CheckPut(msgspec.Struct, frozen=True, array_like=True, tag=42):
    """A check stands with this definition and status. ``evolve`` sets its revisions and since when."""

    check: Check


class CheckDeleted(msgspec.Struct, frozen=True, array_like=True, tag=43):
    """A check was forgotten."""

    node: str
    id: str


class CheckChanged(msgspec.Struct, frozen=True, array_like=True, tag=44):
    """A check says something else."""

    node: str
    id: str
    status: CheckStatus
    output: str = ""


class GuardChanged(msgspec.Struct, frozen=True, array_like=True, tag=50):
    """The users, roles or alarms of a key space changed."""

    space: str
    change: GuardChange


class LayoutsSet(msgspec.Struct, frozen=True, array_like=True, tag=60):
    """These ties between keys and the catalogue are in force, and no others."""

    ties: tuple[Tie, ...]


Fact = (
    Registered | Deregistered | OverrideSet | MaintenanceSet | DrainStarted | DrainCancelled | Reported | ServicePut
    | ServiceDeleted | LeaseGranted | LeaseEnded | LeaseLapsed | LeaseRecovered | LeaseConnectionChanged | HoldReleased
    | LeasesTakenOver | KeysWritten | SpaceCompacted | SessionOpened | SessionClosed | AccessEnabled | TokenPut
    | TokenDeleted | PolicyPut | PolicyDeleted | RolePut | RoleDeleted | NodePut | NodeDeleted | CheckPut | CheckDeleted
    | CheckChanged | GuardChanged | LayoutsSet
)  # fmt: skip


class Commit(msgspec.Struct, frozen=True, array_like=True):
    """What the journal holds under one position: when, by which node, and what happened."""

    position: int
    """Set by the reader of the journal from the entry's own position; written as 0."""
    time_ms: int
    node: str
    facts: tuple[Fact, ...]
