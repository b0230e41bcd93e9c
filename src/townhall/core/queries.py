"""Queries: everything that may be asked of the state, with the actor's rights checked in one place."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter

import msgspec

from townhall.core import Rules, query_checks, query_keys
from townhall.core.access import allowed, allowed_range, key_name, refuse, service_name, space_end
from townhall.core.commands import RangeResult, RecoverLease
from townhall.core.floor import known_count, needed_count
from townhall.core.guard import is_guarded
from townhall.core.query_guard import GuardReader
from townhall.core.rights import check as check_rights
from townhall.core.rights import check_guarded
from townhall.core.state import DEFAULT_SETTINGS, Lease, Service, Session, State
from townhall.core.tally import Tally, settled
from townhall.model.access import Actor, Level, Policy, Resource, Role, Token
from townhall.model.check import Check, CheckStatus, Node
from townhall.model.errors import Compacted, LeaseNotFound, NotFound, Unauthenticated
from townhall.model.instance import Instance, ServiceKey, ServiceSettings
from townhall.model.keys import KeyEvent, KeyValue

__all__ = ["FloorStatus", "RangeResult", "Reader", "ServiceDelta", "ServiceSummary"]

_DEFAULT_RULES = Rules()
_by_id = attrgetter("id")


class ServiceSummary(msgspec.Struct, frozen=True, gc=False):
    """One row of a list of services."""

    key: ServiceKey
    instances: int
    callable: int
    revision: int
    metadata: dict[str, str]
    tags: tuple[str, ...]
    """All tags of its instances, sorted."""


class ServiceDelta(msgspec.Struct, frozen=True):
    """What changed in a service between two revisions, coalesced to the present."""

    revision: int
    changed: Sequence[Instance]
    removed: Sequence[str]


class FloorStatus(msgspec.Struct, frozen=True, gc=False):
    """The removal floor of one service."""

    ratio: float
    known: int
    """Instances that count: those somebody expects to be callable, and silent removals within the window."""
    callable: int
    silent: int
    held: int
    engaged: bool
    """It holds instances, or would hold the next one that falls silent."""
    needed: int = 0
    """How many must stay callable; 0 where there is no floor."""


class Reader:
    """Reads the state on behalf of one actor.

    Methods raise ``Denied`` (or ``Unauthenticated`` for an actor without token where one is needed) when the actor
    has no right to what it names; lists leave out what it may not see. Nothing returned may be changed.
    """

    __slots__ = ("_rules", "actor", "filtered", "state")

    def __init__(self, state: State, actor: Actor, rules: Rules = _DEFAULT_RULES) -> None:
        """``rules`` are needed for ``floor`` only."""
        self.state = state
        self.actor = actor
        self._rules = rules
        self.filtered = False
        """Something that was looked for is there and may not be seen, or might be: lists have left it out."""

    # --- rights ------------------------------------------------------------------------------------------------------

    @property
    def _free(self) -> bool:
        actor = self.actor
        return not (self.state.access_enabled or actor.restricted) or actor.management or actor.internal

    def free_in(self, space: str) -> bool:
        """Whether the actor may do everything with the keys of this space."""
        actor = self.actor
        return self._free and (space not in self.state.guarded or actor.management or actor.internal)

    def may(self, resource: Resource, level: Level, name: str) -> bool:
        """Whether the actor has this right."""
        if self._free and not (self.state.guarded and is_guarded(self.state, resource, name)):
            return True
        if allowed(self.actor, resource, level, name):
            return True
        self.filtered = True
        return False

    def require(self, resource: Resource, level: Level, name: str) -> None:
        """Raise Denied, or Unauthenticated for an actor without token, unless the actor has this right."""
        if not self.may(resource, level, name):
            refuse(self.actor, resource, level, name)

    def may_service(self, level: Level, key: ServiceKey) -> bool:
        """``may`` of a service; its name for the rules is made only where there are rules."""
        return self._free or allowed(self.actor, Resource.SERVICE, level, service_name(key))

    def require_service(self, level: Level, key: ServiceKey) -> None:
        """``require`` of a service."""
        if not self.may_service(level, key):
            refuse(self.actor, Resource.SERVICE, level, service_name(key))

    def require_token(self) -> None:
        """Raise Unauthenticated for an actor without a token where one is needed.

        For lists: they leave out what may not be seen, and to such an actor would look empty.
        """
        if not self._free and not self.actor.token_id and not self.actor.rules:
            raise Unauthenticated("a token is needed", advice="present a token")

    def require_renewal(self, leases: Iterable[int]) -> None:
        """Raise Denied, or Unauthenticated, unless the actor may write all that hangs on these leases.

        A renewal is no command, yet it keeps instances callable and locks held: the same right as to recover a lease.
        """
        if self.open_leases is None and (not self._free or self.state.guarded):
            judge = check_guarded if self._free else check_rights
            for id_ in leases:
                judge(self.state, RecoverLease(id=id_), self.actor)

    def require_range(self, space: str, start: bytes, end: bytes) -> None:
        """Raise Denied, or Unauthenticated, unless the actor may read every key of ``[start, end)``: for what is
        concluded from a range as a whole, such as that nobody holds a lock.
        """
        if not self._sees_all(space, start, end):
            refuse(self.actor, Resource.KEY, Level.READ, key_name(space, start))

    def _read(self, key: ServiceKey) -> Service | None:
        self.require_service(Level.READ, key)
        return self.state.services.get(key)

    # --- the stream --------------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        """Journal position that all answers are true at."""
        return self.state.position

    @property
    def history(self) -> str:
        """What names the journal; another one means that positions cannot be compared. Empty before the first commit."""
        return self.state.history

    @property
    def time_ms(self) -> int:
        """Time of the last commit, Unix milliseconds."""
        return self.state.time_ms

    # --- catalogue ---------------------------------------------------------------------------------------------------

    def service(self, key: ServiceKey) -> Service:
        """The service. Raises NotFound. Do not keep it across a commit."""
        service = self._read(key)
        if service is None:
            raise NotFound(f"no service {key}", service=str(key))
        return service

    def settings(self, key: ServiceKey) -> ServiceSettings:
        """The service's settings; the defaults for an unknown one."""
        service = self._read(key)
        return DEFAULT_SETTINGS if service is None else service.settings

    def instance(self, key: ServiceKey, id: str) -> Instance:  # noqa: A002 - the catalogue's word
        """One instance. Raises NotFound."""
        service = self._read(key)
        instance = service.instances.get(id) if service is not None else None
        if instance is None:
            raise NotFound(f"no instance {id!r} of service {key}", service=str(key), id=id)
        return instance

    def instances(self, key: ServiceKey, *, callable_only: bool = False) -> Sequence[Instance]:
        """All instances, by id; an unknown service has none. ``callable_only`` obeys the service's protect threshold:
        at or below that share of healthy ones all are given but those that somebody's word keeps out.
        """
        service = self._read(key)
        if service is None:
            return ()
        found: Sequence[Instance] = list(service.instances.values())
        if callable_only:
            protect = service.settings.protect
            if protect and service.tally.callable <= protect * len(found):
                found = [instance for instance in found if not settled(instance)]
            elif service.tally.callable < len(found):
                found = [instance for instance in found if instance.callable]
        return sorted(found, key=_by_id)

    def service_revision(self, key: ServiceKey) -> int:
        """Position of the last change of this service, also after it went; 0 when it never was.

        What is forgotten answers with a position at or after its end, so the number never goes back.
        """
        service = self._read(key)
        if service is not None:
            return service.revision
        removed = self.state.removed.get(key)
        return self.state.removed_floor if removed is None else removed.revision

    def services(self, namespace: str = "", prefix: str = "") -> Sequence[ServiceSummary]:
        """The services of a namespace ("" for all) whose name begins with ``prefix``, ordered by key.

        A summary is as of the last change of the listing: see ``Changes.listings``.
        """
        free = self._free
        found = [
            service
            for service in self.state.services_of(namespace)
            if service.key.name.startswith(prefix)
            and (free or self.may(Resource.SERVICE, Level.READ, service_name(service.key)))
        ]
        found.sort(key=attrgetter("key"))
        return [
            ServiceSummary(
                service.key, len(service.instances), service.callable, service.revision, service.metadata, service.tags
            )
            for service in found
        ]

    def namesakes(self, key: ServiceKey) -> list[ServiceKey]:
        """Keys of services whose names are this one (in lower case) but for capitals. It says nothing but that."""
        found = self.state.folded.get(key)
        return [] if found is None else sorted(found)

    def listing_revision(self, namespace: str = "") -> int:
        """Position of the last change of the list of services: which there are, their counts, tags or metadata."""
        return self.state.listings.get(namespace, self.state.listing_floor)

    def changes(self, key: ServiceKey, after: int) -> ServiceDelta:
        """What changed above revision ``after``, as it is now. Raises Compacted when that is not known any more, or
        when ``after`` is from the future (the registry lost its journal): list again.
        """
        service = self._read(key)
        if after > self.state.position:
            raise Compacted(f"revision {after} has not been yet", advice="list again", oldest=self.state.position)
        removed = self.state.removed.get(key) if service is None else None
        log: Sequence[tuple[int, str]]
        if service is not None:
            revision, log_after, log = service.revision, service.log_after, service.log
        elif removed is not None:
            revision, log_after, log = removed.revision, removed.log_after, removed.log
        else:
            revision, log_after, log = self.state.removed_floor, self.state.removed_floor, ()
        if after >= revision:
            return ServiceDelta(max(revision, after), (), ())
        if after < log_after:
            raise Compacted(f"changes up to revision {log_after} are forgotten", advice="list again", oldest=log_after)
        # Behind every entry of position ``after``: ids are below the last code point.
        first = bisect_right(log, (after, "\U0010ffff"))
        instances = service.instances if service is not None else {}
        changed: list[Instance] = []
        gone: list[str] = []
        for id_ in dict.fromkeys(id_ for _, id_ in islice(log, first, None)):
            instance = instances.get(id_)
            if instance is None:
                gone.append(id_)
            else:
                changed.append(instance)
        return ServiceDelta(revision, changed, gone)

    def floor(self, key: ServiceKey) -> FloorStatus:
        """The removal floor of a service as of the last commit."""
        service = self._read(key)
        if service is None:
            return self._floor_status(Tally(), DEFAULT_SETTINGS.floor, self._rules.floor_instances_min)
        return self._floor_status(service.tally, service.settings.floor, self._rules.floor_instances_min)

    def registry_floor(self) -> FloorStatus:
        """The removal floor over all instances that hang on leases."""
        rules = self._rules
        return self._floor_status(self.state.ephemeral, rules.registry_floor, rules.registry_floor_instances_min)

    def _floor_status(self, tally: Tally, ratio: float, instances_min: int) -> FloorStatus:
        rules = self._rules
        known = known_count(tally, now_ms=self.state.time_ms, window_ms=rules.floor_window_ms)
        needed = needed_count(known, ratio=ratio, instances_min=instances_min)
        engaged = tally.held > 0 or (needed > 0 and tally.callable <= needed)
        return FloorStatus(ratio, known, tally.callable, tally.silent, tally.held, engaged, needed)

    # --- nodes and checks --------------------------------------------------------------------------------------------

    def node(self, name: str) -> Node:
        """One node. Raises NotFound."""
        self.require(Resource.NODE, Level.READ, name)
        node = self.state.nodes.get(name)
        if node is None:
            raise NotFound(f"no node {name!r}", node=name)
        return node

    def nodes(self) -> Sequence[Node]:
        """All nodes that the actor may see, by name."""
        return query_checks.nodes(self)

    def nodes_revision(self) -> int:
        """Position of the last change of any node itself; 0 when there never was one."""
        return self.state.book.nodes_revision

    def node_revision(self, name: str) -> int:
        """Position of the last change of a node, its checks or its instances, also after it went; 0 when it never was.

        Instances that belong to no node (``node`` empty) are followed by ``listing_revision`` instead.
        """
        return self.state.book.node_revisions.get(name, self.state.book.node_floor)

    def node_instances(self, name: str) -> list[Instance]:
        """The instances on a node that the actor may see, by key and id."""
        return query_checks.node_instances(self, name)

    def node_place(self, name: str, id: str) -> ServiceKey | None:  # noqa: A002
        """The service of the instance with this id on a node; None when there is none. It says nothing but that."""
        place = self.state.book.places.get(name)
        return None if place is None else place.get(id)

    def check(self, node: str, id: str) -> Check:  # noqa: A002
        """One check. Raises NotFound."""
        return query_checks.check(self, node, id)

    def checks_of_node(self, name: str) -> list[Check]:
        """All checks of a node, its own and those of its instances, by id."""
        return query_checks.visible(self, self.state.book.of_node(name))

    def checks_about_node(self, name: str) -> list[Check]:
        """The checks of a node as a whole, by id; they bear on each of its instances."""
        return query_checks.visible(self, self.state.book.about_node(name))

    def checks_of_instance(self, key: ServiceKey, id: str) -> list[Check]:  # noqa: A002
        """The checks of an instance itself, by id."""
        return query_checks.visible(self, self.state.book.of_instance(key, id))

    def checks_of_service(self, key: ServiceKey) -> list[Check]:
        """The checks of all instances of a service, by node and id."""
        service = self._read(key)
        return query_checks.of_service(self, service) if service is not None else []

    def checks(self, status: CheckStatus | None = None) -> list[Check]:
        """All checks, or those of one status, by node and id."""
        every = self.state.checks.values()
        return query_checks.visible(self, (check for check in every if status is None or check.status is status))

    def checks_revision(self) -> int:
        """Position of the last change of any check; 0 when there never was one."""
        return self.state.book.checks_revision

    # --- leases and sessions -----------------------------------------------------------------------------------------

    def lease(self, id: int) -> Lease:  # noqa: A002
        """One lease; whoever has a token and knows its id may look. Raises LeaseNotFound. Do not keep it."""
        lease = self.find_lease(id)
        if lease is None:
            raise LeaseNotFound(f"lease {id} has ended or never was", advice="register again", lease=id)
        return lease

    def find_lease(self, id: int) -> Lease | None:  # noqa: A002
        """The same; None when it has ended or never was."""
        if (self.state.access_enabled or self.actor.restricted) and not (self._free or self.actor.token_id):
            refuse(self.actor, Resource.SESSION, Level.READ, str(id))
        return self.state.leases.get(id)

    @property
    def open_leases(self) -> Mapping[int, Lease] | None:
        """All leases, where the actor may see and renew any; None where it must be asked for each. Do not keep them."""
        state, actor = self.state, self.actor
        return None if state.access_enabled or actor.restricted or state.guarded else state.leases

    def leases(self) -> Iterator[Lease]:
        """All leases, for who may read everything of the operator's. Do not keep them."""
        self.require(Resource.OPERATOR, Level.READ, "")
        return iter(self.state.leases.values())

    def key_leases(self) -> list[Lease]:
        """The leases that keys hang on or may, none of sessions; only those whose keys may all be read. Do not keep them."""
        self.require_token()
        return query_keys.key_leases(self)

    def lease_keys(self, id: int, space: str) -> list[bytes]:  # noqa: A002
        """The keys of a space that hang on a lease, in order. Raises LeaseNotFound, Denied unless all may be read."""
        keys = query_keys.lease_keys(self.lease(id), space)
        for key in keys:
            self.require(Resource.KEY, Level.READ, key_name(space, key))
        return keys

    def session(self, id: str) -> Session:  # noqa: A002
        """One session. Raises NotFound."""
        session = self.state.sessions.get(id)
        self.require(Resource.SESSION, Level.READ, session.node if session is not None else "")
        if session is None:
            raise NotFound(f"no session {id!r}", session=id)
        return session

    def sessions(self) -> Sequence[Session]:
        """All sessions that the actor may see."""
        return [one for one in self.state.sessions.values() if self.may(Resource.SESSION, Level.READ, one.node)]

    def sessions_revision(self) -> int:
        """Position of the last opening or closing of a session."""
        return self.state.sessions_revision

    # --- keyspaces ---------------------------------------------------------------------------------------------------

    def space_revision(self, space: str) -> int:
        """The space's current revision; 1 for one that was never written."""
        found = self.state.spaces.get(space)
        return 1 if found is None else found.revision

    def space_compacted(self, space: str) -> int:
        """The oldest revision that can still be read; 0 when nothing was forgotten."""
        return query_keys.space_compacted(self.state, space)

    def space_size(self, space: str) -> int:
        """Approximate bytes of keys, values and history."""
        return query_keys.space_size(self.state, space)

    @property
    def space_size_max(self) -> int:
        """How large a space's present keys may become."""
        return self._rules.space_size_max

    def get(self, space: str, key: bytes, *, revision: int = 0) -> KeyValue | None:
        """One key, now or at a revision. Raises Compacted for a forgotten revision, InvalidField for a future one."""
        if not self.free_in(space):
            self.require(Resource.KEY, Level.READ, key_name(space, key))
        return query_keys.get(self.state, space, key, revision=revision)

    def range(self, space: str, start: bytes, end: bytes, *, limit: int = 0, revision: int = 0) -> RangeResult:
        """Keys of ``[start, end)``; what the actor may not read is left out and not counted. Raises as ``get``."""
        if self._sees_all(space, start, end):
            return query_keys.range_keys(self.state, space, start, end, limit=limit, revision=revision)
        whole = query_keys.range_keys(self.state, space, start, end, revision=revision)
        kvs = [kv for kv in whole.kvs if allowed(self.actor, Resource.KEY, Level.READ, key_name(space, kv.key))]
        self.filtered = self.filtered or len(kvs) < len(whole.kvs)
        shown = kvs[:limit] if limit > 0 else kvs
        return RangeResult(shown, len(kvs), len(shown) < len(kvs), whole.revision)

    def lock_delay_until(self, space: str, key: bytes) -> int:
        """Until when (Unix milliseconds) nobody may lock the key, because its last holder's session ended; 0: now."""
        if not self.free_in(space):
            self.require(Resource.KEY, Level.READ, key_name(space, key))
        return query_keys.lock_delay_until(self.state, space, key)

    def key_events(self, space: str, start: bytes, end: bytes, after: int, *, limit: int = 0) -> Sequence[KeyEvent]:
        """Events of ``[start, end)`` with a revision above ``after``, in order, whole revisions; those that the actor
        may not read are left out. Raises Compacted.
        """
        if self._sees_all(space, start, end):
            return query_keys.key_events(self.state, space, start, end, after, limit=limit)
        events = query_keys.key_events(self.state, space, start, end, after)
        seen = [event for event in events if allowed(self.actor, Resource.KEY, Level.READ, key_name(space, event.key))]
        if 0 < limit < len(seen):
            last = seen[limit - 1].revision
            return [event for event in seen if event.revision <= last]
        return seen

    def _sees_all(self, space: str, start: bytes, end: bytes) -> bool:
        if self.free_in(space):
            return True
        name = key_name(space, start)
        if end:
            return allowed_range(self.actor, Resource.KEY, Level.READ, name, space_end(space, end))
        return allowed(self.actor, Resource.KEY, Level.READ, name)

    # --- access ------------------------------------------------------------------------------------------------------

    def is_guarded(self, space: str) -> bool:
        """Whether users of a key space must say who they are: ``guard(space).enabled`` without detours."""
        return space in self.state.guarded

    def guard(self, space: str) -> GuardReader:
        """The users, roles and alarms of a key space; what it answers is of now."""
        return GuardReader(self, space)

    def tokens(self) -> Sequence[Token]:
        """All tokens, by id."""
        self.require(Resource.OPERATOR, Level.READ, "")
        return sorted(self.state.tokens.values(), key=_by_id)

    def policies(self) -> Sequence[Policy]:
        """All policies, by name."""
        self.require(Resource.OPERATOR, Level.READ, "")
        return sorted(self.state.policies.values(), key=attrgetter("name"))

    def roles(self) -> Sequence[Role]:
        """All roles, by name."""
        self.require(Resource.OPERATOR, Level.READ, "")
        return sorted(self.state.roles.values(), key=attrgetter("name"))
