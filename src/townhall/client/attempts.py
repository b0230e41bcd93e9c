"""What to do after a failed call: the decisions of ``call()``, apart from doing them, for asyncio and threads alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

from townhall.client.records import Instance
from townhall.model import limits
from townhall.model.errors import PeerMisbehaved, Unreachable

__all__ = [
    "FAILURES",
    "NOT_ACTED_ON",
    "OVERLOADED",
    "Attempts",
    "CallOptions",
    "Terms",
    "begin_call",
    "failure_kind",
    "was_sent",
]

OVERLOADED = frozenset({502, 503, 504})
"""Statuses by which an instance, or a proxy before it, says: not now, ask another."""
NOT_ACTED_ON = "townhall-not-acted-on"
"""A header field of an answer (over gRPC: of its trailing metadata) by which a service that stops refuses a call before
anything was done for it. What is not idempotent may then be called elsewhere as well."""

FAILURES: tuple[type[Exception], ...] = (OSError, EOFError, Unreachable, PeerMisbehaved)
"""Exceptions that are the instance's fault rather than the caller's or the application's (TimeoutError and
ConnectionError are OSErrors). Other libraries' are added with ``failures=``."""


class CallOptions(TypedDict, total=False):
    """How hard to try; durations are seconds."""

    retries: int
    """Further attempts after the first, at other instances as long as there are any; default 2."""
    timeout: float | None
    """For the whole call; default none for ``call``, 10 for ``request``."""
    try_timeout: float | None
    """For each attempt; default none for ``call``, an even share of ``timeout`` for ``request``."""
    idempotent: bool
    """False: an attempt that the instance may have acted on is not made again. Default True for ``call``; for
    ``request`` what HTTP says about the method."""
    failures: tuple[type[Exception], ...]
    """Exceptions, beside ``FAILURES``, that are the instance's fault (``httpx.TransportError``)."""
    wait: float
    """How long to wait for an instance when none can be called at all; default 0."""
    key: str | bytes
    """What has the same key goes to the same instance, with a balancer that knows keys (``ring_hash``, ``maglev``)."""
    hedge: float
    """When an attempt has not answered after so long, make another beside it and take the first answer; default none.
    Never for what is not idempotent, and out of the same budget as retries."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all attempts of a call. Times are seconds of a clock that does not jump."""

    deadline: float | None
    try_timeout_s: float | None
    failures: tuple[type[Exception], ...]
    """What is the instance's fault."""
    timed: bool = True
    """Whether attempts must be ended from outside; False when they keep to the deadline by themselves."""

    def late(self, now_s: float) -> bool:
        """Whether there is no time left for another attempt."""
        return self.deadline is not None and now_s >= self.deadline

    def try_ends(self, now_s: float) -> float | None:
        """When an attempt that begins now is to be ended; None when it is not."""
        if not self.timed:
            return None
        if self.try_timeout_s is None:
            return self.deadline
        end = now_s + self.try_timeout_s
        return end if self.deadline is None else min(self.deadline, end)


@dataclass(slots=True)
class Attempts:
    """One call's attempts."""

    retries: int = limits.CLIENT_RETRIES_DEFAULT
    idempotent: bool = True
    tried: set[str] = field(default_factory=set)
    """Ids that were tried in this call; others come first."""

    def begin(self, instance: Instance) -> None:
        """An attempt at this instance begins."""
        self.tried.add(instance.id)

    def again(self, error: BaseException) -> bool:
        """Whether another attempt may follow this failure; one that may be acted on twice is made only once."""
        if self.retries <= 0 or not (self.idempotent or not was_sent(error)):
            return False
        self.retries -= 1
        return True


def begin_call(options: CallOptions, *, now_s: float, timed: bool = True) -> tuple[Terms, Attempts]:
    """What the options mean for a call that begins now."""
    timeout_s = options.get("timeout")
    deadline = None if timeout_s is None else now_s + timeout_s
    terms = Terms(deadline, options.get("try_timeout"), (*FAILURES, *options.get("failures", ())), timed)
    return terms, Attempts(options.get("retries", limits.CLIENT_RETRIES_DEFAULT), options.get("idempotent", True))


def was_sent(error: BaseException) -> bool:
    """Whether the instance may have acted on the call; only a refused or failed connection is certain not to."""
    if isinstance(error, Unreachable):
        return bool(error.fields.get("sent", True))
    return not isinstance(error, ConnectionRefusedError)


def failure_kind(error: BaseException) -> str:
    """The registry's word for it: ``timeout``, ``connect``, ``reset`` or ``5xx``."""
    if isinstance(error, Unreachable):
        return str(error.fields.get("kind", "connect"))
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "connect"
    return "reset"
