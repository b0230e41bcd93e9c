"""One service as a consumer sees it: pick from memory, call with failover, watch."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import msgspec

from townhall.client.attempts import NOT_ACTED_ON, OVERLOADED, Attempts, CallOptions, Terms, begin_call, failure_kind
from townhall.client.chooser import Chooser
from townhall.client.connection import Origin
from townhall.client.hedging import hedged
from townhall.client.home import Home
from townhall.client.http import IDEMPOTENT, Request, Response
from townhall.client.interfaces import Interfaces, revision_of
from townhall.client.mirrors import SharedMirror
from townhall.client.opened import Opened
from townhall.client.picture import Change, Picture
from townhall.client.records import Instance
from townhall.client.sources import SourceMirror
from townhall.client.tracing import Tracing
from townhall.model import limits
from townhall.model.errors import NoInstance, OverLimit, Unreachable
from townhall.model.instance import ServiceKey

if TYPE_CHECKING:
    from townhall.client.interface_view import InterfaceView

__all__ = ["CallOptions", "RequestOptions", "ServiceHandle"]

T = TypeVar("T")

_RETRY_PAUSE_S = 0.05
"""Before instances that have all been tried are tried again."""


class RequestOptions(CallOptions, total=False):
    """An HTTP request."""

    headers: Mapping[str, str]
    body: bytes
    json: Any
    """Sent as JSON instead of ``body``."""
    scheme: str
    port_name: str
    """One of the instance's further ports."""


class ServiceHandle:
    """Made by ``Consumer[name]``. Everything but ``start``, ``call`` and ``request`` answers at once, from memory."""

    def __init__(
        self,
        key: ServiceKey,
        make_chooser: Callable[[], Chooser],
        acquire: Callable[[], SharedMirror | SourceMirror],
        start_timeout_s: float,
    ) -> None:
        self.key = key
        self.chooser = make_chooser()
        """Whom it asks; ``blocking`` tells it of the calls that it makes itself."""
        self.start_timeout_s = start_timeout_s
        self._make_chooser = make_chooser
        self._acquire = acquire
        self._shared: SharedMirror | SourceMirror | None = None
        self._picture: Picture | None = None
        self._returning: asyncio.TimerHandle | None = None
        self._resting_until = 0.0
        """Reading of the loop's clock, before which there is no choosing anew: it would take too much of the time."""
        self._unlisten: Callable[[], None] | None = None
        self._listeners: list[Callable[[Change], None]] = []
        self._changed = asyncio.Event()
        self._views: dict[tuple[str, bool], InterfaceView] = {}
        self._home = Home()
        self.tracing: Tracing | None = None
        """Told of every attempt (``ConsumerOptions.tracing``)."""

    # --- what is known -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Find the service; done by the first call otherwise.

        Raises ``NoInstance`` when the registry cannot be reached and there is no snapshot on disk (and goes on trying),
        or what the registry refuses with (``Denied``, ``Unauthenticated``). A service without instances is no error.
        """
        self.settle()
        if self._picture is not None:
            return
        if self._shared is None:
            shared = self._acquire()
            shared.mirror.follow(self.key)
            self._unlisten = shared.mirror.listen(self.key, self._learn, self.chooser.unanswered)
            self._shared = shared
        await self._shared.mirror.ready(self.key, budget_s=self.start_timeout_s)
        if self._picture is None:
            # Another handle of the shared mirror had it already.
            self._picture = self._shared.mirror.picture(self.key)
            self._rebuild()

    def started_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it knows its service, and is kept up to date by this event loop."""
        return self._picture is not None and self._home.loop is loop

    def settle(self) -> None:
        """Begin anew in another event loop than before. Raises ``Misuse`` when that one runs in another thread."""
        if not self._home.enter(f"this handle of {self.key}") and self._shared is not None:
            self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything, without touching what belongs to an event loop that has ended or to the parent process."""
        self.chooser = self._make_chooser()
        self._unlisten = self._shared = self._picture = self._returning = None
        self._resting_until = 0.0
        self._listeners, self._changed = [], asyncio.Event()
        for view in self._views.values():
            view.begin_anew()

    def stop(self) -> None:
        """Stop following; done by ``Consumer.close``. Idempotent."""
        for view in self._views.values():
            view.stop()
        if self._unlisten is not None and self._shared is not None:
            self._unlisten()
            self._shared.mirror.unfollow(self.key)
        if self._returning is not None:
            self._returning.cancel()
        self._unlisten = self._shared = self._picture = self._returning = None
        self.chooser.rebuild((), now_ms=0.0, unix_ms=0.0)

    def instances(self, *, callable_only: bool = False) -> tuple[Instance, ...]:
        """All known instances with their verdicts, or those that the registry says may be called."""
        known = self._picture.instances if self._picture is not None else ()
        return tuple(one for one in known if one.callable) if callable_only else known

    def leaving(self, instance: Instance) -> bool:
        """Whether one that was picked is not to be called any more, while others may be."""
        present = self._picture.by_id.get(instance.id) if self._picture is not None else None
        if present is not None and present.callable:
            return False
        return any(one.callable for one in self.instances())

    @property
    def picture(self) -> Picture | None:
        """What is known of the service; None before the start."""
        return self._picture

    @property
    def revision(self) -> int:
        """The service's revision that is known; 0 for none."""
        return self._picture.revision if self._picture is not None else 0

    @property
    def age_s(self) -> float:
        """Seconds since what is known was certainly true: 0 while the registry is connected."""
        return self._shared.mirror.age_s(self.key) if self._shared is not None else 0.0

    @property
    def stale(self) -> bool:
        """Whether what is known may have changed since: the registry is away."""
        return self.age_s > 0

    # --- changes -----------------------------------------------------------------------------------------------------

    def on_change(self, callback: Callable[[Change], object]) -> Callable[[], None]:
        """Be called in the event loop with each change; returns what ends it. Needs a running event loop."""
        self.settle()
        loop = asyncio.get_running_loop()

        def listener(change: Change) -> None:
            # An application's exception goes to the loop's handler and does not end the mirror.
            loop.call_soon(callback, change)

        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def watch(self) -> AsyncIterator[Picture]:
        """The picture now and after changes; who is slow sees the latest and not each. Raises as ``start`` does."""
        await self.start()
        seen: Picture | None = None
        while True:
            if self._picture is not seen and self._picture is not None:
                seen = self._picture
                yield seen
            else:
                await self._changed.wait()

    async def wait_callable(self, count: int = 1, *, budget_s: float = 10.0) -> None:
        """Returns when at least ``count`` instances may be called. Raises ``NoInstance`` after ``budget_s``."""
        try:
            async with asyncio.timeout(budget_s):
                await self.start()
                while len(self.instances(callable_only=True)) < count:
                    await self._changed.wait()
        except TimeoutError:
            raise self._nothing() from None

    # --- interfaces --------------------------------------------------------------------------------------------------

    async def interfaces(self, *, budget_s: float = 5.0) -> dict[str, Interfaces]:
        """What the present instances offer, by the revision in their metadata (``interfaces.revision_of``).

        Several revisions are a roll-out. Those that cannot be had within the budget (seconds) are not in it; fetching goes
        on. Instances that name none say nothing of what they offer.
        """
        await self.start()
        book = self.shared().interfaces
        revisions = {revision_of(one.metadata) for one in self.instances()} - {""}
        book.want(revisions, self.instances)
        await book.wait(revisions, budget_s=budget_s)
        return {revision: found for revision in sorted(revisions) if (found := book.get(revision)) is not None}

    def with_interface(self, name: str, *, insist: bool = False) -> ServiceHandle:
        """The same service without the instances that are known not to offer a method or interface (``offers``).

        With ``insist`` only those that are known to offer it. The same handle each time. Raises ``OverLimit``.
        """
        view = self._views.get((name, insist))
        if view is None:
            from townhall.client.interface_view import InterfaceView  # noqa: PLC0415 - it is built upon this module

            if len(self._views) >= limits.CLIENT_INTERFACES_VIEWS_MAX:
                raise OverLimit(f"{len(self._views)} interfaces of {self.key} are followed already")
            view = self._views[name, insist] = InterfaceView(self, self._make_chooser, name, insist=insist)
            view.tracing = self.tracing
        return view

    # --- calls -------------------------------------------------------------------------------------------------------

    def pick(self, key: str | bytes | None = None, *, supporting: str = "") -> Instance:
        """The instance for the next call. Raises ``NoInstance``, whose field ``why`` tells the reason.

        Balancers that go by load are told of the calls that ``call`` makes; whoever picks alone is not seen by them.
        ``supporting`` is short for ``with_interface(name).pick()``.
        """
        if supporting:
            return self.with_interface(supporting).pick(key)
        instance = self.chooser.pick(key.encode() if isinstance(key, str) else key)
        if instance is None:
            raise self._nothing()
        return instance

    async def call(self, function: Callable[[Instance], Awaitable[T]], **options: Unpack[CallOptions]) -> T:
        """``await function(instance)``, and at another instance when that fails by the instance's fault.

        Raises what the last attempt raised (TimeoutError when a timeout ended it), or ``NoInstance``. Other exceptions
        of ``function`` are the application's and are passed on at once. Retries and hedges stop when too many of the
        service's calls need them (``RetryBudget``).
        """
        opened = await self.open(function, **options)
        opened.close()
        return opened.value

    async def open(self, function: Callable[[Instance], Awaitable[T]], **options: Unpack[CallOptions]) -> Opened[T]:
        """``call`` for an answer that goes on after ``function`` has returned; the caller closes what it gets.

        ``timeout`` and ``try_timeout`` end with ``function``.
        """
        return await self._open(function, options, *begin_call(options, now_s=asyncio.get_running_loop().time()))

    async def _open(
        self, function: Callable[[Instance], Awaitable[T]], options: CallOptions, terms: Terms, attempts: Attempts
    ) -> Opened[T]:
        if self.tracing is not None:
            function = self.tracing.traced(self.key, function)
        clock = asyncio.get_running_loop().time
        hedge_s = options.get("hedge") if attempts.idempotent else None
        budget = self.chooser.budget
        budget.call()
        instance = await self._first(options.get("wait", 0.0), options.get("key"))
        while True:
            attempts.begin(instance)
            attempt = partial(self._attempt, function, instance, terms)
            try:
                if hedge_s is None:
                    return await attempt()
                hedge = partial(self._hedge, function, attempts, terms)
                return await hedged(attempt, hedge, delay_s=hedge_s, discard=Opened.close)
            except terms.failures as error:
                if terms.late(clock()) or not attempts.again(error) or not budget.spend(now_ms=clock() * 1000):
                    raise
                instance = await self._another(attempts, error)
                self.chooser.tally.retries += 1

    async def request(self, method: str, path: str, **options: Unpack[RequestOptions]) -> Response:
        """An HTTP request to an instance, with failover; 502, 503 and 504 count as failures.

        Returns the answer, whatever its status, also the last 503 when no instance gave better. Raises ``Unreachable``,
        ``PeerMisbehaved`` or ``NoInstance``.
        """
        await self.start()
        assert self._shared is not None
        http = self._shared.http
        headers = dict(options.get("headers", {}))
        body = options.get("body", b"")
        if "json" in options:
            body = msgspec.json.encode(options["json"])
            headers.setdefault("content-type", "application/json")
        retries = options.get("retries", limits.CLIENT_RETRIES_DEFAULT)
        timeout_s = options.get("timeout", limits.CLIENT_TIMEOUT_MS / 1000)
        budget_s = options.get("try_timeout") or (timeout_s or limits.CLIENT_TIMEOUT_MS / 1000) / (retries + 1)

        async def attempt(instance: Instance) -> Response:
            port = instance.ports[options["port_name"]] if "port_name" in options else instance.port
            origin = Origin(options.get("scheme", "http"), instance.address, port)
            sent = headers if self.tracing is None else self.tracing.carried(headers)
            left_s = budget_s if terms.deadline is None else min(budget_s, max(0.001, terms.deadline - clock()))
            response = await http.request(Request(origin, method, path, sent, body, left_s))
            if response.status in OVERLOADED:
                raise _Overloaded(response)
            return response

        options["timeout"] = timeout_s
        options.setdefault("idempotent", method in IDEMPOTENT)
        clock = asyncio.get_running_loop().time
        # The client keeps to the deadline by itself; a second timer around each attempt would cost a tenth of the call.
        terms, attempts = begin_call(options, now_s=clock(), timed=False)
        try:
            opened = await self._open(attempt, options, terms, attempts)
        except _Overloaded as error:
            return error.response
        opened.close()
        return opened.value

    async def get(self, path: str, **options: Unpack[RequestOptions]) -> Response:
        """``request("GET", path)``."""
        return await self.request("GET", path, **options)

    def failed(self, instance: Instance, kind: str) -> None:
        """A call to a picked instance failed: leave it out for a while and tell the registry.

        For callers that use ``pick`` alone; ``call`` does it itself. ``kind``: timeout, connect, reset or 5xx.
        """
        now_ms = asyncio.get_running_loop().time() * 1000
        self.chooser.tally.failed(kind)
        if self.chooser.ejections.failed(instance.id, now_ms=now_ms):
            self.chooser.tally.ejections += 1
            self._choose_anew((instance.id,))
        if self._shared is not None:
            self._shared.mirror.reports.add(instance, kind)

    def shared(self) -> SharedMirror | SourceMirror:
        """The mirror that it follows, once it has been started."""
        assert self._shared is not None
        return self._shared

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _first(self, wait_s: float, key: str | bytes | None) -> Instance:
        await self.start()
        try:
            return self.pick(key)
        except NoInstance:
            if wait_s <= 0:
                raise
        await self.wait_callable(budget_s=wait_s)
        return self.pick(key)

    async def _attempt(
        self, function: Callable[[Instance], Awaitable[T]], instance: Instance, terms: Terms
    ) -> Opened[T]:
        """One attempt at one instance, whose outcome the balancer, the ejections and the registry are told."""
        chooser, clock = self.chooser, asyncio.get_running_loop().time
        begun = clock()
        answered = failed = False
        chooser.begun(instance, now_ms=begun * 1000)
        try:
            ends = terms.try_ends(begun)
            if ends is None:
                value = await function(instance)
            else:
                async with asyncio.timeout_at(ends):
                    value = await function(instance)
            answered = True
            return Opened(value, instance, chooser, self.failed, begun_ms=begun * 1000)
        except terms.failures as error:
            failed = True
            self.failed(instance, failure_kind(error))
            raise
        finally:
            if not answered:
                chooser.ended(instance, begun_ms=begun * 1000, now_ms=clock() * 1000, failed=failed)

    def _hedge(
        self, function: Callable[[Instance], Awaitable[T]], attempts: Attempts, terms: Terms
    ) -> Callable[[], Awaitable[Opened[T]]] | None:
        """The second attempt beside a slow one, at an instance that was not tried; None without one, or budget."""
        instance = self.chooser.untried(attempts.tried, self.instances())
        now_ms = asyncio.get_running_loop().time() * 1000
        if instance is None or not self.chooser.budget.spend(now_ms=now_ms):
            return None
        attempts.begin(instance)
        self.chooser.tally.hedges += 1
        return partial(self._attempt, function, instance, terms)

    async def _another(self, attempts: Attempts, error: Exception) -> Instance:
        """An instance that this call has not tried, or, when all were, any after a short pause. Raises ``error``."""
        instance = self.chooser.untried(attempts.tried, self.instances())
        if instance is not None:
            return instance
        await asyncio.sleep(_RETRY_PAUSE_S)
        instance = self.chooser.pick()
        if instance is None:
            raise error
        return instance

    def _learn(self, change: Change) -> None:
        before, self._picture = self._picture, change.picture
        if change.removed:
            self.chooser.ejections.retain(change.picture.by_id)
        for view in self._views.values():
            view.learnt(change)
        known = before.by_id if before is not None else {}
        changed = [one.id for one in change.changed if (was := known.get(one.id)) and _other_than(was, one)]
        self._choose_anew([*change.removed, *changed])
        self._tell(change)

    def _tell(self, change: Change) -> None:
        for listener in tuple(self._listeners):
            listener(change)
        # Wakes those that wait now; who comes later looks first.
        self._changed.set()
        self._changed.clear()

    def _choose_anew(self, gone: Collection[str]) -> None:
        """Now; or soon, when that takes long and has just been done. ``gone`` get no calls in any case."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._resting_until and self.chooser.pass_over(gone):
            if self._returning is None or self._returning.when() > self._resting_until:
                self._rebuild_at(self._resting_until)
        else:
            self._rebuild()

    def _rebuild_at(self, when: float) -> None:
        if self._returning is not None:
            self._returning.cancel()
        self._returning = asyncio.get_running_loop().call_at(when, self._rebuild)

    def _rebuild(self) -> None:
        """Choose anew among what may be called: after a change, a failure, or the end of an ejection."""
        if self._picture is None:
            return
        clock = asyncio.get_running_loop().time
        begun = clock()
        if self._returning is not None:
            self._returning.cancel()
            self._returning = None
        again_ms = self.chooser.rebuild(self._picture.instances, now_ms=begun * 1000, unix_ms=time.time() * 1000)
        for view in self._views.values():
            view.refresh()
        ended = clock()
        if len(self._picture.instances) > limits.CLIENT_REBUILD_FREE_COUNT:
            self._resting_until = ended + limits.CLIENT_REBUILD_REST * (ended - begun)
        if again_ms is not None:
            # A little later, so that rounding does not find it still out.
            self._rebuild_at(max(begun + again_ms / 1000 + 0.001, self._resting_until))

    def _nothing(self) -> NoInstance:
        """Why there is nothing to pick."""
        if self._picture is None:
            why, message = "not_started", f"{self.key} has not been looked up"
            advice = "await handle.start() before pick()"
        elif not self._picture.instances and self._picture.revision == 0:
            why, message = "unknown_service", f"no instance of {self.key} was ever registered"
            advice = "check the name, namespace and group"
        else:
            verdicts = Counter(one.verdict for one in self._picture.instances)
            found = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()) or "none registered"
            why, message = "none_callable", f"no instance of {self.key} may be called: {found}"
            advice = ""
        if self.stale and why != "not_started":
            message += f" (as known {self.age_s:.0f} s ago; the registry is away)"
        return NoInstance(message, advice=advice, service=str(self.key), why=why)


class _Overloaded(Unreachable):
    """An answer that says: not now."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status}", kind="5xx", sent=NOT_ACTED_ON not in response.headers)
        self.response = response


def _other_than(was: Instance, now: Instance) -> bool:
    """Whether who knows an instance as it was must not call it any more."""
    return (
        not now.callable
        or (was.address, was.port, was.ports) != (now.address, now.port, now.ports)
        or revision_of(was.metadata) != revision_of(now.metadata)
    )
