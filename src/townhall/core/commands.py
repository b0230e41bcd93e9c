"""Commands: what somebody wants. Imperative; each is decided by one function in the table of ``core.decide``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from townhall.core.commands_guard import GuardOrder
from townhall.model.access import Rule
from townhall.model.check import NO_DEFINITION, CheckDefinition, CheckStatus
from townhall.model.instance import Instance, ServiceKey, ServiceSettings, Verdict
from townhall.model.keys import KeyValue, Transaction
from townhall.model.lease import EndReason, LeaseKind, SessionBehavior
from townhall.model.tie import Tie

__all__ = [
    "BootstrapAccess", "CancelDrain", "ChangeGuard", "CloseSession", "Command", "CompactSpace", "DeleteCheck", "DeleteNode",
    "DeletePolicy", "DeleteRole", "DeleteService", "DeleteToken", "Deregister", "EndLease", "Expected", "GrantLease", "LapseLeases",
    "LeaseGrant", "MarkReported", "OpenSession", "PatchInstance", "PutCheck", "PutLayouts", "PutNode", "PutPolicy", "PutRole", "PutService",
    "PutToken", "RangeResult", "RecoverLease", "Register", "Registration", "Restore", "SetCheck", "SetConnection",
    "SetMaintenance", "SetOverride", "StartDrain", "Sweep", "TakeOverLeases", "Together", "Transact",
    "TransactResult",
]  # fmt: skip


class Register(msgspec.Struct, frozen=True, kw_only=True):
    """Register an instance, or update it (upsert). Result: ``Registration``, with its lease and TTL.

    The same claim (or none on either side) and definition changes nothing; the same claim with another definition
    updates within the incarnation; another claim is a new incarnation, and the old lease, if nothing else hangs on
    it, ends as SUPERSEDED.
    """

    key: ServiceKey
    id: str
    address: str
    port: int = 0
    ports: dict[str, int] = {}
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = {}
    weight: float = 1.0
    region: str = ""
    zone: str = ""
    cluster: str = ""
    enabled: bool = True
    ready: bool = True
    persistent: bool = False
    ttl_ms: int = 0
    """0 takes the registry's default. Ignored when ``lease`` names an existing one or ``persistent`` is set."""
    lease: int = 0
    """Hang it on this lease instead of a new one of its own."""
    claim: str = ""
    protocol: str = "native"
    origin: str = ""
    node: str = ""
    extra: dict[str, str] = {}
    """See ``Instance.extra``."""
    checks: tuple[PutCheck, ...] = ()
    """Checks of this instance that stand from the same commit on, so that nobody sees it before its checks. Their
    ``key`` and ``instance`` are taken from here. A check that stands with the same definition keeps its status."""


class Deregister(msgspec.Struct, frozen=True, kw_only=True):
    """Remove an instance deliberately. Refused with Fenced when ``incarnation`` or ``claim`` is given and stale."""

    key: ServiceKey
    id: str
    incarnation: int = 0
    claim: str = ""


class PatchInstance(msgspec.Struct, frozen=True, kw_only=True):
    """Change what is given, keep the rest. ``metadata`` merges; a None value removes its key."""

    key: ServiceKey
    id: str
    incarnation: int = 0
    tags: tuple[str, ...] | None = None
    metadata: dict[str, str | None] | None = None
    weight: float | None = None
    enabled: bool | None = None
    ready: bool | None = None
    zone: str | None = None


class SetOverride(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's word on an instance; None takes it back."""

    key: ServiceKey
    id: str
    verdict: Verdict | None
    reason: str = ""


class SetMaintenance(msgspec.Struct, frozen=True, kw_only=True):
    """Put an instance into maintenance with a reason, or take it out (``reason`` None)."""

    key: ServiceKey
    id: str
    reason: str | None


class StartDrain(msgspec.Struct, frozen=True, kw_only=True):
    """No new calls for this instance. Complete when all subscribers have acknowledged, or at the deadline."""

    key: ServiceKey
    id: str
    deadline_ms: int = 0
    """From now; 0 takes the service's setting."""
    incarnation: int = 0


class CancelDrain(msgspec.Struct, frozen=True, kw_only=True):
    """Take a drain back."""

    key: ServiceKey
    id: str


class MarkReported(msgspec.Struct, frozen=True, kw_only=True):
    """The hub counted enough callers' failures (``report`` says which), or none for long enough (``report`` "")."""

    key: ServiceKey
    id: str
    incarnation: int
    report: str


class PutService(msgspec.Struct, frozen=True, kw_only=True):
    """Create a service that may exist without instances, or replace its metadata and settings (None keeps)."""

    key: ServiceKey
    metadata: dict[str, str] | None = None
    settings: ServiceSettings | None = None


class DeleteService(msgspec.Struct, frozen=True, kw_only=True):
    """Forget a service. Refused with Conflict while it has instances."""

    key: ServiceKey


class GrantLease(msgspec.Struct, frozen=True, kw_only=True):
    """A new lease. Result: ``LeaseGrant``. ``id`` 0 lets the registry choose; a taken one is AlreadyExists. It
    may be negative for ``LeaseKind.KEYS`` alone.
    """

    ttl_ms: int = 0
    id: int = 0
    kind: LeaseKind = LeaseKind.INSTANCE


class EndLease(msgspec.Struct, frozen=True, kw_only=True):
    """End a lease and all that hangs on it, deliberately. ``epoch`` 0 does not check; a stale one is Fenced."""

    id: int
    epoch: int = 0
    reason: EndReason = EndReason.REVOKED


class LapseLeases(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines have passed without renewal. KEYS leases end; INSTANCE leases make their instances SUSPECT, held by
    the floor where it is engaged. Epochs fence out what was taken over meanwhile.
    """

    leases: tuple[tuple[int, int], ...]
    """(id, epoch)."""


class RecoverLease(msgspec.Struct, frozen=True, kw_only=True):
    """A lapsed lease was renewed after all."""

    id: int


class SetConnection(msgspec.Struct, frozen=True, kw_only=True):
    """The connection over which these leases are renewed came (``up``) or broke unasked."""

    leases: tuple[int, ...]
    up: bool


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """Periodic: end leases lapsed for longer than their grace, release what the floor need not hold any longer."""

    count_max: int


class TakeOverLeases(msgspec.Struct, frozen=True, kw_only=True):
    """This node becomes owner of the leases of ``owner`` (or of all, when ""), with the next epoch."""

    owner: str = ""


class OpenSession(msgspec.Struct, frozen=True, kw_only=True):
    """A named session on a KEYS lease, which may hold keys as locks. Result: its id."""

    name: str = ""
    node: str = ""
    ttl_ms: int = 0
    """0: lives until it is closed."""
    behavior: SessionBehavior = SessionBehavior.RELEASE
    lock_delay_ms: int = 15_000
    data: dict[str, str] = {}
    """What only one face needs to keep with it."""
    id: str = ""
    checks: tuple[str, ...] = ()
    """Ids of checks on ``node``: the session ends when one of them turns critical or goes. NotFound for one that is
    not there, Conflict for one that is critical."""


class CloseSession(msgspec.Struct, frozen=True, kw_only=True):
    """End a session: its keys are released or deleted."""

    id: str


class Transact(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction on one space (a single put, get or delete is one without compares). Result: ``TransactResult``."""

    space: str
    transaction: Transaction
    alarm: bool = False
    """Raise the alarm NO_SPACE of the space when it is refused because the space is full (etcd)."""


class CompactSpace(msgspec.Struct, frozen=True, kw_only=True):
    """Forget a space's history before ``revision``."""

    space: str
    revision: int


class ChangeGuard(msgspec.Struct, frozen=True, kw_only=True):
    """Change the users, roles or alarms of a key space; see ``core.commands_guard``."""

    space: str
    order: GuardOrder


class PutNode(msgspec.Struct, frozen=True, kw_only=True):
    """Make a node known, or replace what is known of it."""

    name: str
    id: str = ""
    """UUID text; empty keeps the one it has."""
    address: str = ""
    tagged_addresses: dict[str, str] = {}
    meta: dict[str, str] = {}


class DeleteNode(msgspec.Struct, frozen=True, kw_only=True):
    """Forget a node with its checks, its sessions and the instances that belong to it. NotFound when there is nothing."""

    name: str


class PutCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Make a check, or replace it. NotFound when the instance it is about does not exist. One without a node is the
    provider's word on its instance (``model.check.word_name``).

    ``status`` None: a check that stands keeps its status and output; a new one is critical, as long as nothing else
    is known.
    """

    node: str
    id: str
    name: str = ""
    status: CheckStatus | None = None
    output: str = ""
    notes: str = ""
    key: ServiceKey | None = None
    """With ``instance``: the instance it is about; None: the whole node."""
    instance: str = ""
    incarnation: int = 0
    """Of the instance: Fenced when it has another one. 0 does not ask."""
    definition: CheckDefinition = NO_DEFINITION


class DeleteCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Forget a check. NotFound when there is none."""

    node: str
    id: str


class SetCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What a check says now. NotFound when there is none. The same again is not journaled."""

    node: str
    id: str
    status: CheckStatus
    output: str = ""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a ``Together`` relies on: a node (``node`` alone), or a check or an instance on it, at this revision."""

    node: str
    check: str = ""
    instance: str = ""
    revision: int
    """0: there is none of that name."""


class Together(msgspec.Struct, frozen=True, kw_only=True):
    """Several commands as one commit: all or none. Result: the tuple of their results.

    They are decided side by side against the state before, as a group of commits is, so no two of them may touch the
    same thing: InvalidField. Nodes are deleted before all else. Conflict when something is not as expected, or when
    the compares of a transaction among them do not hold; any refusal of one refuses all.
    """

    commands: tuple[Command, ...]
    expected: tuple[Expected, ...] = ()


class Restore(msgspec.Struct, frozen=True, kw_only=True):
    """Let stand again what stood in a snapshot (the chunks of ``codec.dump_state``), in one commit; see
    ``decide_restore`` for what is brought back. Result: the snapshot's position.
    """

    chunks: tuple[bytes, ...]


class BootstrapAccess(msgspec.Struct, frozen=True):
    """Switch access control on and make the first management token, once. Result: ``(Token, secret)``."""


class PutToken(msgspec.Struct, frozen=True, kw_only=True):
    """Make a token (``id`` "") or change one. Result: ``(Token, secret)``; the secret is "" for a change."""

    id: str = ""
    policies: tuple[str, ...] = ()
    description: str = ""
    ttl_ms: int = 0
    management: bool = False
    secret: str = ""
    """Use this secret for a new token instead of a drawn one."""
    new_id: str = ""
    """Use this id for a new token instead of a drawn one; one that is taken is AlreadyExists."""
    roles: tuple[str, ...] | None = None
    """These and the next two: None keeps what a token has."""
    rules: tuple[Rule, ...] | None = None
    extra: dict[str, str] | None = None


class DeleteToken(msgspec.Struct, frozen=True, kw_only=True):
    """Revoke a token. The last management token cannot go while access control is on."""

    id: str


class PutPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Make or replace a policy."""

    name: str
    rules: tuple[Rule, ...]
    description: str = ""
    extra: dict[str, str] = {}


class DeletePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Remove a policy; tokens and roles that name it lose its rights."""

    name: str


class PutRole(msgspec.Struct, frozen=True, kw_only=True):
    """Make or replace a role. Result: the ``Role``. NotFound when a policy that it names is not there."""

    name: str
    policies: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    description: str = ""
    extra: dict[str, str] = {}


class DeleteRole(msgspec.Struct, frozen=True, kw_only=True):
    """Remove a role; tokens that name it lose its rights."""

    name: str


class PutLayouts(msgspec.Struct, frozen=True):
    """Put these ties between keys and the catalogue in force, and no others."""

    ties: tuple[Tie, ...]


Command = (
    Register | Deregister | PatchInstance | SetOverride | SetMaintenance | StartDrain | CancelDrain | MarkReported
    | PutService | DeleteService | GrantLease | EndLease | LapseLeases | RecoverLease | SetConnection | Sweep
    | TakeOverLeases | OpenSession | CloseSession | Transact | CompactSpace | BootstrapAccess | PutToken | DeleteToken
    | PutPolicy | DeletePolicy | PutRole | DeleteRole | PutNode | DeleteNode | PutCheck | DeleteCheck | SetCheck
    | ChangeGuard | Together | PutLayouts | Restore
)  # fmt: skip


class Registration(msgspec.Struct, frozen=True):
    """What ``Register`` answers."""

    instance: Instance
    """As it will stand, as far as known before the commit: a fresh one has no incarnation and revision yet."""
    lease: int
    """0 for a persistent instance."""
    ttl_ms: int
    fresh: bool
    """A new incarnation began."""


class LeaseGrant(msgspec.Struct, frozen=True):
    """What ``GrantLease`` answers."""

    id: int
    ttl_ms: int


class RangeResult(msgspec.Struct, frozen=True):
    """Keys of a range. ``count`` is that of the whole range, whatever the limit."""

    kvs: Sequence[KeyValue]
    count: int
    more: bool
    revision: int
    """The space's current revision."""


class TransactResult(msgspec.Struct, frozen=True):
    """What a transaction answers: whether its compares held, one response per operation of the branch taken."""

    succeeded: bool
    responses: tuple[object, ...]
    """``RangeResult`` for Get, ``KeyValue | None`` (the previous one) for Put, a tuple of previous ``KeyValue`` for
    Delete, a ``TransactResult`` for a nested Transaction."""
    revision: int
    """The space's revision that the writes of this transaction get, or the current one when there are none."""
