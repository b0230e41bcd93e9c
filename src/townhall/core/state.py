"""State: the three books in memory, with everything that is derived from them kept in step.

Only ``core.evolve_*`` and ``core.codec`` change a State, and only through the methods here; everybody else reads.

Snapshots while the registry runs
    ``Instance`` and the other values are immutable; ``Service`` and ``Lease`` are not. A snapshot notes references to
    all of them and raises ``generation``. From then on whoever wants to change one asks for it with
    ``service_to_change`` or ``lease_to_change``, which puts a copy in its place once per generation. So the snapshot
    goes on seeing what stood at its position, a commit pays for what it touches, and nothing else is copied. Nobody
    may keep a reference to a Service or Lease across a commit: keep its key or id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from townhall.core.check_index import CheckIndex
from townhall.core.intern import Interner
from townhall.core.tally import Tally
from townhall.model import limits
from townhall.model.access import Policy, Role, Token
from townhall.model.check import Check, Node
from townhall.model.instance import Instance, ServiceKey, ServiceSettings
from townhall.model.lease import LeaseKind, SessionBehavior

if TYPE_CHECKING:
    from townhall.core.guard import Guard
    from townhall.core.keyspace import Keyspace
    from townhall.core.ties import Ties

__all__ = ["DEFAULT_SETTINGS", "Lease", "RemovedService", "Service", "Session", "State"]

DEFAULT_SETTINGS = ServiceSettings()


class Service(msgspec.Struct, gc=False, eq=False):
    """A service: its instances, its own metadata and settings, its counts and the log of its recent changes."""

    key: ServiceKey
    instances: dict[str, Instance]
    tally: Tally
    generation: int
    revision: int = 0
    """Position of the last change of the service or of one of its instances."""
    explicit: bool = False
    """It was put by itself and so exists without instances."""
    metadata: dict[str, str] = {}
    settings: ServiceSettings = DEFAULT_SETTINGS
    log: list[tuple[int, str]] = []
    """(position, instance id) of changes, oldest first: complete for positions above ``log_after``."""
    log_after: int = 0
    tags_seen: tuple[str, ...] | None = None
    """What ``tags`` found last; None after a change of any instance's tags."""

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags of its instances, sorted."""
        if self.tags_seen is None:
            distinct = {instance.tags for instance in self.instances.values()}
            self.tags_seen = tuple(sorted(set().union(*distinct)))
        return self.tags_seen

    @property
    def callable(self) -> int:
        """How many instances callers may be given."""
        return self.tally.callable

    @property
    def held(self) -> int:
        """How many of those are only there because the removal floor holds them."""
        return self.tally.held

    @property
    def silent(self) -> int:
        """How many instances' leases have lapsed or lost their connection."""
        return self.tally.silent


class RemovedService(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a service that is gone, so that its watchers learn how it ended."""

    revision: int
    log_after: int
    log: tuple[tuple[int, str], ...]


class Lease(msgspec.Struct, gc=False, eq=False):
    """A lease and what hangs on it. Its deadline is soft state of the hub."""

    id: int
    ttl_ms: int
    owner: str
    """The node that watches its deadline."""
    epoch: int
    kind: LeaseKind
    generation: int
    granted_at: int = 0
    own: bool = False
    """It was granted for one registration and ends with it; others live until they are ended or expire."""
    lapsed_at: int = 0
    disconnected_at: int = 0
    held: int = 0
    """How many of its instances the removal floor holds callable."""
    key: ServiceKey | None = None
    """With ``instance``: the only instance on it, without the cost of a set. None with ``more`` or without instance."""
    instance: str = ""
    more: set[tuple[ServiceKey, str]] | None = None
    """All instances on it when there is more than one."""
    keys: set[tuple[str, bytes]] | None = None
    """(space, key) of the keys on it."""
    sessions: set[str] | None = None
    """Ids of the sessions on it."""

    @property
    def connected(self) -> bool:
        """False from when its connection broke unasked until that is undone."""
        return self.disconnected_at == 0

    @property
    def silent(self) -> bool:
        """It lapsed or lost its connection: a renewal must be told by ``RecoverLease``."""
        return self.lapsed_at != 0 or self.disconnected_at != 0

    @property
    def instance_count(self) -> int:
        """How many instances hang on it."""
        return len(self.more) if self.more is not None else int(self.key is not None)

    @property
    def attachment_count(self) -> int:
        """How many instances, keys and sessions hang on it."""
        return self.instance_count + (len(self.keys) if self.keys else 0) + (len(self.sessions) if self.sessions else 0)

    def attached(self) -> tuple[tuple[ServiceKey, str], ...]:
        """The instances on it, in no particular order."""
        if self.more is not None:
            return tuple(self.more)
        return () if self.key is None else ((self.key, self.instance),)

    def attach(self, key: ServiceKey, id: str) -> None:  # noqa: A002 - the catalogue's word
        """Hang an instance on it; idempotent."""
        if self.more is not None:
            self.more.add((key, id))
        elif self.key is None:
            self.key, self.instance = key, id
        elif (self.key, self.instance) != (key, id):
            self.more = {(self.key, self.instance), (key, id)}
            self.key, self.instance = None, ""

    def detach(self, key: ServiceKey, id: str) -> None:  # noqa: A002
        """Take an instance off it; idempotent."""
        if self.more is None:
            if self.instance == id and self.key == key:
                self.key, self.instance = None, ""
            return
        self.more.discard((key, id))
        if len(self.more) == 1:
            self.key, self.instance = self.more.pop()
            self.more = None

    def copy(self, generation: int) -> Lease:
        """A copy that may be changed without the original noticing."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        fields["generation"] = generation
        for name in ("more", "keys", "sessions"):
            if fields[name] is not None:
                fields[name] = set(fields[name])
        return Lease(**fields)


class Session(msgspec.Struct, frozen=True, gc=False):
    """A session (Consul): a named holder of locks. Immutable; a change puts a new one in its place.

    Which keys it holds is the keyspace's to know.
    """

    id: str
    name: str
    node: str
    lease: int
    """0: lives until it is closed."""
    behavior: SessionBehavior
    lock_delay_ms: int
    data: dict[str, str]
    created_revision: int = 0
    """Journal position of the commit that opened it."""
    checks: tuple[str, ...] = ()
    """Ids of checks on its node: it ends when one of them turns critical or goes."""


class State:
    """Everything the registry knows at one position of its journal."""

    __slots__ = (
        "access_enabled", "book", "bound", "ephemeral", "folded", "generation", "guarded", "guards", "history", "instance_count", "interner", "leases", "listing_floor", "listings",
        "namespaces", "policies", "position", "removed", "removed_floor", "roles", "secrets", "services", "sessions", "sessions_revision", "silent", "spaces", "stamp",
        "stamp_node", "ties", "time_ms", "tokens", "touched",
    )  # fmt: skip

    def __init__(self) -> None:
        self.position = 0
        self.time_ms = 0
        """Time of the last commit, Unix milliseconds; never backwards."""
        self.stamp = 0
        """Hybrid logical time of the last commit; ``stamp_node`` wrote it."""
        self.stamp_node = ""
        self.generation = 0
        self.history = ""
        """What names this journal: drawn from its first commit, so that a watcher notices when it resumes in another."""

        self.services: dict[ServiceKey, Service] = {}
        self.instance_count = 0
        self.ephemeral = Tally()
        """Counts over all instances with a lease: the registry's own removal floor."""
        self.removed: OrderedDict[ServiceKey, RemovedService] = OrderedDict()
        self.removed_floor = 0
        """Services removed up to this position may be forgotten altogether."""
        self.namespaces: dict[str, set[ServiceKey]] = {}
        self.folded: dict[ServiceKey, set[ServiceKey]] = {}
        """Keys in lower case → services whose names have capitals: names in DNS have no case."""
        self.listings: OrderedDict[str, int] = OrderedDict()
        """Position of the last change of each namespace's list of services; "" for all namespaces."""
        self.listing_floor = 0
        self.interner = Interner()

        self.leases: dict[int, Lease] = {}
        self.silent: dict[int, None] = {}
        """Ids of the leases that are silent, in the order in which they fell silent."""
        self.sessions: dict[str, Session] = {}
        self.sessions_revision = 0
        """Position of the last opening or closing of a session."""
        self.bound: dict[tuple[str, str], set[str]] = {}
        """(node, id) of a check → ids of the sessions that end with it."""

        self.book = CheckIndex()
        """Nodes and checks, and what belongs to what."""

        self.spaces: dict[str, Keyspace] = {}

        self.ties: Ties | None = None
        """Which keys are instances and which show some; None when none do."""
        self.touched: dict[tuple[ServiceKey, str], None] | None = None
        """Instances changed in the commit that is being applied; None when no keys show instances."""

        self.access_enabled = False
        self.tokens: dict[str, Token] = {}
        self.secrets: dict[bytes, str] = {}
        """Hash of a token's secret → the token's id."""
        self.policies: dict[str, Policy] = {}
        self.roles: dict[str, Role] = {}
        self.guards: dict[str, Guard] = {}
        """Space → its users, roles and alarms."""
        self.guarded: frozenset[str] = frozenset()
        """Spaces whose guard is on."""

    @property
    def nodes(self) -> dict[str, Node]:
        """Nodes by name."""
        return self.book.nodes

    @property
    def checks(self) -> dict[tuple[str, str], Check]:
        """Checks by (node, id)."""
        return self.book.checks

    def note_guards(self) -> None:
        """A guard was switched on or off."""
        self.guarded = frozenset(space for space, guard in self.guards.items() if guard.enabled)

    def bind(self, session: Session) -> None:
        """Enter an open session under the checks that it names."""
        for check in session.checks:
            self.bound.setdefault((session.node, check), set()).add(session.id)

    def unbind(self, session: Session) -> None:
        """Take a session that ends away from its checks."""
        for check in session.checks:
            bound = self.bound.get((session.node, check))
            if bound is not None:
                bound.discard(session.id)
                if not bound:
                    del self.bound[session.node, check]

    def begin(self, position: int, time_ms: int, node: str) -> None:
        """A commit is being applied: set position, time and stamp."""
        self.position = position
        if position == 1:
            self.history = f"{time_ms:x}-{node}"
        self.time_ms = max(self.time_ms, time_ms)
        # Wall milliseconds × 65536 + counter, never backwards; commits of one millisecond differ in the counter.
        stamp, wall = self.stamp + 1, time_ms << 16
        self.stamp = stamp if stamp > wall else wall
        self.stamp_node = node

    def tie(self, ties: Ties) -> None:
        """Put ties in force. What they make of the keys that stand is the caller's to do."""
        self.ties = ties if ties.all else None
        # What this commit has touched so far (instances that came by an import which ends) is still to be shown.
        self.touched = (self.touched or {}) if ties.exports else None

    # --- changing shared things (see the head of this file) ---------------------------------------------------------

    def service_to_change(self, key: ServiceKey) -> Service | None:
        """The service for changing, None when there is none."""
        service = self.services.get(key)
        if service is None or service.generation == self.generation:
            return service
        copy = Service(
            key=service.key,
            instances=service.instances.copy(),
            tally=service.tally.copy(),
            generation=self.generation,
            revision=service.revision,
            explicit=service.explicit,
            metadata=service.metadata,
            settings=service.settings,
            log=service.log.copy(),
            log_after=service.log_after,
            tags_seen=service.tags_seen,
        )
        self.services[copy.key] = copy
        return copy

    def lease_to_change(self, id: int) -> Lease | None:  # noqa: A002 - the catalogue's word
        """The lease for changing, None when there is none."""
        lease = self.leases.get(id)
        if lease is None or lease.generation == self.generation:
            return lease
        copy = self.leases[id] = lease.copy(self.generation)
        return copy

    # --- services ----------------------------------------------------------------------------------------------------

    def make_service(self, key: ServiceKey) -> Service:
        """The service for changing, made when there is none; goes on with the log that a removed one left."""
        service = self.service_to_change(key)
        if service is not None:
            return service
        service = Service(
            key=key, instances={}, tally=Tally(), generation=self.generation, log=[], log_after=self.removed_floor
        )
        remembered = self.removed.pop(key, None)
        if remembered is not None:
            service.log = list(remembered.log)
            service.log_after = remembered.log_after
        self.services[key] = service
        self.namespaces.setdefault(key.namespace, set()).add(key)
        small = key.name.lower()
        if small != key.name:
            self.folded.setdefault(key._replace(name=small), set()).add(key)
        return service

    def drop_service(self, service: Service) -> None:
        """Forget a service that has no instances, remembering its log for a while."""
        key = service.key
        del self.services[key]
        names = self.namespaces[key.namespace]
        names.discard(key)
        if not names:
            del self.namespaces[key.namespace]
        small = key._replace(name=key.name.lower())
        others = self.folded.get(small)
        if others is not None:
            others.discard(key)
            if not others:
                del self.folded[small]
        self.removed[key] = RemovedService(service.revision, service.log_after, tuple(service.log))
        while len(self.removed) > limits.REMOVED_SERVICES_REMEMBERED_MAX:
            _, oldest = self.removed.popitem(last=False)
            self.removed_floor = max(self.removed_floor, oldest.revision)

    def note_change(self, service: Service, id: str) -> None:  # noqa: A002
        """Enter a change of one instance into the service's log, at the current position."""
        position = service.revision = self.position
        log = service.log
        log.append((position, id))
        if len(log) >= 2 * limits.SERVICE_LOG_COUNT_MAX:
            cut = len(log) - limits.SERVICE_LOG_COUNT_MAX
            service.log_after = log[cut - 1][0]
            del log[:cut]

    def note_listing(self, namespace: str) -> None:
        """The namespace's list of services changed at the current position."""
        listings = self.listings
        listings[namespace] = self.position
        listings[""] = self.position
        if len(listings) > limits.REMOVED_SERVICES_REMEMBERED_MAX + len(self.namespaces):
            self._forget_listings()

    def _forget_listings(self) -> None:
        """Drop every namespace without services; what is unknown answers with the floor, so nothing ever goes back."""
        for namespace in [name for name in self.listings if name and name not in self.namespaces]:
            self.listing_floor = max(self.listing_floor, self.listings.pop(namespace))

    def store(self, service: Service, before: Instance | None, after: Instance | None) -> None:
        """Put ``after`` in the place of ``before`` (either may be None) and keep every count and attachment in step."""
        if after is None:
            assert before is not None
            del service.instances[before.id]
            self.instance_count -= 1
        else:
            service.instances[after.id] = after
            if before is None:
                self.instance_count += 1
        if before is None or after is None or before.tags is not after.tags:
            service.tags_seen = None
        if self.touched is not None:
            self.touched[service.key, after.id if after is not None else before.id] = None  # type: ignore[union-attr]
        service.tally.replace(before, after)
        self.ephemeral.replace(
            before if before is not None and before.lease else None,
            after if after is not None and after.lease else None,
        )
        if before is None or after is None or before.node != after.node:
            if before is not None and before.node:
                self.book.part(before.node, (before.key, before.id))
            if after is not None and after.node:
                self.book.join(after.node, (service.key, after.id))
        if before is not None and before.lease:
            self._leave_lease(before, after)
        if after is not None and after.lease:
            self._join_lease(before, after)

    def _leave_lease(self, before: Instance, after: Instance | None) -> None:
        stays = after is not None and after.lease == before.lease
        if stays and not before.evidence.held:
            return
        lease = self.lease_to_change(before.lease)
        if lease is None:
            return
        lease.held -= before.evidence.held
        if not stays:
            lease.detach(before.key, before.id)

    def _join_lease(self, before: Instance | None, after: Instance) -> None:
        stays = before is not None and after.lease == before.lease
        if stays and not after.evidence.held:
            return
        lease = self.lease_to_change(after.lease)
        if lease is None:
            return
        lease.held += after.evidence.held
        if not stays:
            lease.attach(after.key, after.id)

    def services_of(self, namespace: str) -> Iterator[Service]:
        """Services of one namespace, or of all ("") in no particular order."""
        if not namespace:
            return iter(self.services.values())
        return (self.services[key] for key in self.namespaces.get(namespace, ()))

    def check(self) -> None:
        """Assert every invariant; for tests. Costs a walk over everything."""
        from townhall.core.invariants import check  # noqa: PLC0415 - the invariants read this module

        check(self)
