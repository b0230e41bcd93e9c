"""What the gRPC channels of both kinds share: a connection per instance, and what a status says about an instance.

grpcio for Python has no resolvers or balancers to plug in. A channel of ours therefore looks like one channel and holds an
ordinary one for each instance; every call picks its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, TypedDict, TypeVar

import grpc

from townhall.client.attempts import NOT_ACTED_ON
from townhall.client.handle import CallOptions
from townhall.client.records import Instance
from townhall.model import limits
from townhall.model.errors import Unreachable

__all__ = ["ChannelOptions", "ChannelPool", "Failed", "call_options", "failure", "maker", "target"]

C = TypeVar("C")

_OPTIONS = (
    # Channels to one address do not share their connection and its backoff: one that is made anew tries at once.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_reconnect_backoff_ms", limits.CLIENT_EJECTION_MS),
)
_NOT_CONNECTED = "failed to connect"
"""How gRPC's core begins the details of a call that never left, because no connection could be made."""


class ChannelOptions(TypedDict, total=False):
    """How hard a channel tries; durations are seconds. Deadlines are each call's own ``timeout``."""

    retries: int
    """Further attempts of a unary call, at other instances; default 2."""
    try_timeout: float
    """For each attempt of a unary call; default none."""
    wait: float
    """How long to wait for an instance when none can be called at all; default 0."""
    idempotent: bool | Collection[str]
    """Whether calls may be made again that an instance may have acted on, or the full names of the methods that may
    (``/user.Users/Get``); default False. Those that certainly never arrived are made again in any case."""
    credentials: grpc.ChannelCredentials | None
    """For TLS; default an insecure channel."""
    channel_options: Sequence[tuple[str, Any]]
    """gRPC's own, for each instance's channel; they win over ours."""


class Failed(Unreachable):
    """An attempt that is the instance's fault; the cause is gRPC's error."""

    def __init__(self, *, kind: str, sent: bool) -> None:
        super().__init__("the instance failed", kind=kind, sent=sent)


def failure(error: Any, *, cut_short: bool) -> Failed | None:
    """The failure of the instance that a finished call's status tells of; None when it is the application's word.

    ``cut_short``: its deadline was that of the attempt rather than the call's.
    """
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and cut_short:
        return Failed(kind="timeout", sent=True)
    if code is not grpc.StatusCode.UNAVAILABLE:
        return None
    if any(name == NOT_ACTED_ON for name, _ in error.trailing_metadata() or ()):
        return Failed(kind="5xx", sent=False)
    if (error.details() or "").startswith(_NOT_CONNECTED):
        return Failed(kind="connect", sent=False)
    return Failed(kind="reset", sent=True)


def call_options(options: ChannelOptions, method: str) -> CallOptions:
    """What the Consumer is told of a unary call."""
    idempotent = options.get("idempotent", False)
    return {
        "retries": options.get("retries", limits.CLIENT_RETRIES_DEFAULT),
        "wait": options.get("wait", 0.0),
        "idempotent": idempotent if isinstance(idempotent, bool) else method in idempotent,
    }


def maker(options: ChannelOptions, insecure: Callable[..., C], secure: Callable[..., C]) -> Callable[[str], C]:
    """What makes an ordinary channel to a target."""
    given = (*_OPTIONS, *options.get("channel_options", ()))
    credentials = options.get("credentials")
    if credentials is None:
        return lambda where: insecure(where, options=given)
    return lambda where: secure(where, credentials, options=given)


def target(instance: Instance) -> str:
    """An instance in gRPC's words: no name is looked up for an address."""
    if ":" in instance.address:
        return f"ipv6:[{instance.address}]:{instance.port}"
    plain = instance.address.replace(".", "").isdecimal()
    return f"ipv4:{instance.authority}" if plain else f"dns:///{instance.authority}"


class ChannelPool(Generic[C]):
    """A channel for each instance, made on first use; those of instances that are gone end when their calls have."""

    def __init__(
        self,
        make: Callable[[str], C],
        close: Callable[[C], object],
        known: Callable[[], Sequence[Instance]],
    ) -> None:
        self._make = make
        self._close = close
        self._known = known
        self._channels: dict[str, C] = {}
        self._running: dict[str, int] = {}
        self._lock = threading.Lock()

    def begin(self, instance: Instance) -> C:
        """The channel for one call; each is followed by one ``end``."""
        where = target(instance)
        with self._lock:
            channel = self._channels.get(where)
            if channel is None:
                channel = self._channels[where] = self._make(where)
            self._running[where] = self._running.get(where, 0) + 1
        return channel

    def end(self, instance: Instance) -> None:
        """The call is over. Closes what is needed no more."""
        where = target(instance)
        with self._lock:
            self._running[where] -= 1
            if not self._running[where]:
                del self._running[where]
            closed = []
            instances = self._known()
            if len(self._channels) > len(instances):
                kept = {*self._running, *map(target, instances)}
                closed = [self._channels.pop(one) for one in list(self._channels) if one not in kept]
        for channel in closed:
            self._close(channel)

    def close(self) -> list[C]:
        """All channels, which the caller closes; the next call makes new ones."""
        with self._lock:
            channels, self._channels = list(self._channels.values()), {}
        return channels
