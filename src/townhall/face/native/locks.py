"""Locks and leader election: two views of the same queue of leases (``core.locks``).

A lock and an election of one name are different things: an election's queue carries a mark that the name of a lock
cannot have, because it is escaped there. So are slashes, which a queue's name cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from townhall.core import Command, Outcome, locks
from townhall.core.commands import RangeResult, TransactResult
from townhall.core.locks import Standing
from townhall.core.queries import Reader
from townhall.face import Park, Pulled, Reply, Request, Stream, Submit, Verb
from townhall.face.native import outcomes, problems
from townhall.face.native.key_shapes import key_text
from townhall.face.native.lease_shapes import LockBody, LockedView, LockRefusal, LockView, ProclaimBody
from townhall.face.native.operations import Operation
from townhall.face.native.rendering import encode, position_header, reply
from townhall.face.native.requests import Flag, Text, lease_id
from townhall.face.native.watching import LEAVING, STREAM_HEADERS
from townhall.model import limits
from townhall.model.errors import Conflict, InvalidField, NotFound, TownhallError
from townhall.model.keys import KeyValue
from townhall.wire import sse
from townhall.wire.strict_json import Strict

__all__ = ["LeaderWatch", "Locks", "Waiting", "queue_name"]

_LOCK: Strict[LockBody] = Strict(LockBody)
_PROCLAIM: Strict[ProclaimBody] = Strict(ProclaimBody)
_LEASE = Text("lease", "The lease that holds it or waits for it.", size_max=20, required=True)
_WATCH = Flag("watch", "Stream the leaders as server-sent events.")
_ELECTION_MARK = "@"


class Locks:
    """Handlers of locks and elections, and who waits in which queue."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, int], Waiting] = {}

    def operations(self) -> list[Operation]:
        """The rows of the table."""
        return [*self._rows("locks", "lock", election=False), *self._rows("elections", "election", election=True)]

    def _rows(self, path: str, noun: str, *, election: bool) -> list[Operation]:
        one = f"/{path}/{{name...}}"
        tag = "locks"
        rows = [
            Operation(
                method="POST", path=one, handler=partial(self.acquire, election=election), tag=tag, body=LockBody,
                summary=f"Take the {noun}, or queue for it", answers={200: LockedView}, refusals=(404, 409, 429),
                description="Refused with 409, `holder` and `position_in_queue` when somebody else has it. With `wait_ms` it "
                "queues first; at the deadline it leaves the queue again. Asking again with the same lease is harmless.",
            ),
            Operation(
                method="DELETE", path=one, handler=partial(release, election=election), tag=tag, parameters=(_LEASE,),
                summary=f"Let the {noun} go, or leave its queue", answers={204: None}, refusals=(404,),
            ),
            Operation(
                method="GET", path=one, handler=partial(get, election=election), tag=tag,
                parameters=(_WATCH,) if election else (), summary=f"Who has the {noun}", answers={200: LockView},
            ),
        ]  # fmt: skip
        if election:
            rows.append(
                Operation(
                    method="PUT", path=one, handler=proclaim, tag=tag, body=ProclaimBody, summary="The leader's new value",
                    answers={200: LockedView}, refusals=(404, 409),
                )
            )  # fmt: skip
        return rows

    def acquire(self, request: Request, reader: Reader, *, election: bool) -> Verb:
        """Stand in the queue; answer when the lock is held, or when the time is up."""
        lock = _queue(request, election=election)
        body = _LOCK.decode(request.body)
        lease = lease_id(body.lease)
        keys = _range(reader, lock)
        if locks.standing(lock, lease=lease, keys=keys) is None:
            queue = locks.queue_of(keys)
            if queue and not body.wait_ms:  # It would only stand at the end of the queue, to leave it at once.
                raise _refused(queue[0], ahead=len(queue))
            locks.admit(lock, keys)
        deadline = request.live.now_ms() + body.wait_ms
        waiting = Waiting(self._latest, lock, lease)

        def queued(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Verb:
            try:
                standing = waiting.stands(outcomes[0])
            except TownhallError as error:
                waiting.forget()
                return problems.reply(error)
            if standing.held:
                waiting.forget()
                return _held(reader, standing)
            wait_ms = max(0, deadline - request.live.now_ms())
            return Park([locks.interest(lock)], waiting.attempt, wait_ms, waiting.abandoned)

        return Submit([locks.acquire(lock, lease=lease, value=body.value.encode())], queued, waiting.abandoned_early)


def queue_name(name: str, *, election: bool) -> str:
    """The name of the queue behind a lock or an election. Raises InvalidField."""
    if not name:
        raise InvalidField("name", "must not be empty")
    escaped = name.replace("%", "%25").replace("/", "%2F")
    if election:
        return _ELECTION_MARK + escaped
    return "%40" + escaped[1:] if escaped.startswith(_ELECTION_MARK) else escaped


def _queue(request: Request, *, election: bool) -> str:
    return queue_name(request.segments["name"], election=election)


def _range(reader: Reader, lock: str) -> RangeResult:
    """The whole queue: with some of it left out, a lock that is held would look free."""
    span = locks.span_of(lock)
    reader.require_range(locks.SPACE, *span)
    return reader.range(locks.SPACE, *span)


def _keys(reader: Reader, lock: str) -> Sequence[KeyValue]:
    return locks.queue_of(_range(reader, lock))


def _standing(reader: Reader, lock: str, lease: int) -> Standing | None:
    return locks.standing(lock, lease=lease, keys=_range(reader, lock))


def _held(reader: Reader, standing: Standing) -> Reply:
    key = key_text(locks.key_of(standing.lock, standing.lease))
    view = LockedView(held=True, fence=standing.fencing, key=key, value=key_text(standing.holder.value))
    return reply(reader, view)


class Waiting:
    """One request for a lock, from its being asked until it is answered.

    A client that asks again (its connection broke) keeps its place, and from then on the earlier request must not
    give that place up: only the request that asked last for a lease does.
    """

    __slots__ = ("_fencing", "_inherited", "_latest", "_name")

    def __init__(self, latest: dict[tuple[str, int], Waiting], lock: str, lease: int) -> None:
        self._latest = latest
        self._name = (lock, lease)
        self._fencing = 0
        self._inherited = self._name in latest
        """Whether an earlier request of this lease was not answered yet: the place that it took, nobody knows of."""
        latest[self._name] = self

    def stands(self, outcome: Outcome | TownhallError) -> Standing:
        """Where the lease stands now that it has been put into the queue. Raises what became of it otherwise."""
        if isinstance(outcome, TownhallError):
            raise outcome
        lock, lease = self._name
        assert isinstance(outcome.result, TransactResult)
        standing = locks.standing_after(lock, lease=lease, result=outcome.result)
        self._fencing = standing.fencing
        return standing

    def attempt(self, reader: Reader, expired: bool) -> Reply | Submit | None:
        """The lock if it is held by now; at the deadline, leave the queue and say who has it."""
        lock, lease = self._name
        standing = _standing(reader, lock, lease)
        if standing is None or standing.fencing != self._fencing:
            self.forget()
            return problems.reply(Conflict("the lease is not in the queue any more", advice="ask again"))
        if standing.held:
            self.forget()
            return _held(reader, standing)
        if not expired:
            return None
        refused = problems.reply(_refused(standing.holder, ahead=standing.ahead))
        commands = self.abandoned()
        return Submit(commands, lambda reader, _: refused) if commands else refused

    def abandoned(self) -> Sequence[Command]:
        """What takes the request out of the queue."""
        if not self.forget():
            return ()
        lock, lease = self._name
        return (locks.release(lock, lease=lease, fencing=self._fencing),)

    def abandoned_early(self, outcomes: Sequence[Outcome | TownhallError]) -> Sequence[Command]:
        """The same when nobody is there any more as the lease has been put into the queue."""
        (outcome,) = outcomes
        try:
            standing = self.stands(outcome)
        except TownhallError:
            self.forget()
            return ()
        assert isinstance(outcome, Outcome)
        assert isinstance(outcome.result, TransactResult)
        put = outcome.result.succeeded or self._inherited
        if standing.held and not put:  # Its client was told so before, and may be at work under it.
            self.forget()
            return ()
        return self.abandoned()

    def forget(self) -> bool:
        """It is answered, or need not be. Whether the place in the queue was its own to give up."""
        if self._latest.get(self._name) is not self:
            return False
        del self._latest[self._name]
        return True


def _refused(holder: KeyValue, *, ahead: int) -> Conflict:
    return Conflict(
        "somebody else holds it",
        advice="wait with wait_ms, or ask again later",
        holder={
            "lease": str(locks.lease_of(holder)),
            "fence": holder.create_revision,
            "value": key_text(holder.value),
        },
        position_in_queue=ahead,
    )


def release(request: Request, reader: Reader, *, election: bool) -> Verb:
    """Let go of it, or leave the queue."""
    lock = _queue(request, election=election)
    lease = lease_id(_LEASE.read(request))

    def render(_: Reader, outcome: Outcome) -> Reply:
        result = outcome.result
        assert isinstance(result, TransactResult)
        if not result.responses or not result.responses[0]:
            return problems.reply(NotFound(f"lease {lease} neither holds nor waits", lease=str(lease)))
        return Reply(204, b"", (position_header(outcome.position),))

    return outcomes.submit(locks.release(lock, lease=lease), render)


def _view(reader: Reader, lock: str, name: str) -> LockView:
    queue = _keys(reader, lock)
    holder = None
    if queue:
        first = queue[0]
        holder = LockRefusal(lease=str(first.lease), fence=first.create_revision, value=key_text(first.value))
    return LockView(
        name=name,
        holder=holder,
        waiters=max(0, len(queue) - 1),
        fence=holder.fence if holder else 0,
        revision=reader.space_revision(locks.SPACE),
    )


def get(request: Request, reader: Reader, *, election: bool) -> Verb:
    """Who has it; for an election also as a stream."""
    lock = _queue(request, election=election)
    name = request.segments["name"]
    shown = _view(reader, lock, name)
    if not (election and _WATCH.read(request)):
        return reply(reader, shown)
    watch = LeaderWatch(lock, partial(_view, lock=lock, name=name))
    return Stream(
        interests=[locks.interest(lock)],
        pull=watch.pull,
        headers=(position_header(reader.position), *STREAM_HEADERS),
        heartbeat=sse.HEARTBEAT,
        heartbeat_ms=limits.STREAM_HEARTBEAT_MS,
        leaving=LEAVING,
    )


class LeaderWatch:
    """One peer's knowledge of who leads."""

    __slots__ = ("_lock", "_told", "_view")

    def __init__(self, lock: str, view: Callable[[Reader], LockView]) -> None:
        self._lock = lock
        self._told: tuple[int, str | None] | None = None
        self._view = view

    def pull(self, reader: Reader) -> Pulled | None:
        """An event ``leader`` when another one leads, the leader proclaimed another value, or nobody leads."""
        view = self._view(reader)
        told = (view.fence, view.holder.value if view.holder else None)
        if told == self._told:
            return None
        self._told = told
        return Pulled(sse.identified(sse.event("leader", encode(view)), view.revision))


def proclaim(request: Request, reader: Reader) -> Verb:
    """The leader puts a new value."""
    lock = _queue(request, election=True)
    body = _PROCLAIM.decode(request.body)
    lease = lease_id(body.lease)
    standing = _standing(reader, lock, lease)
    if standing is None:
        raise NotFound(f"lease {lease} does not stand for election", lease=str(lease))
    if not standing.held:
        raise _refused(standing.holder, ahead=standing.ahead)
    value = body.value.encode()

    def render(reader: Reader, outcome: Outcome) -> Reply:
        result = outcome.result
        assert isinstance(result, TransactResult)
        if not result.succeeded:
            return problems.reply(Conflict("the lease does not lead any more", advice="stand for election again"))
        key = key_text(locks.key_of(lock, lease))
        return reply(reader, LockedView(held=True, fence=standing.fencing, key=key, value=body.value))

    return outcomes.submit(locks.proclaim(lock, lease=lease, fencing=standing.fencing, value=value), render)
