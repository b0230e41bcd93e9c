"""Who must say who they are: what comes before every call while the guard of the space is on.

The core judges rights; this only tells apart, in etcd's words, who said nothing and who presented a token that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from townhall.core.queries import Reader
from townhall.face import Verb
from townhall.face.etcd.answers import refusal
from townhall.face.etcd.member import SPACE
from townhall.face.grpc import Call, Code, Method

__all__ = ["FREE", "guarded", "secret_of"]

FREE: Final = frozenset({"/etcdserverpb.Auth/Authenticate"})
"""What a stranger may call; so is everything of ``grpc.health.v1``."""
_WATCH: Final = "/etcdserverpb.Watch/Watch"
_EMPTY: Final = refusal(Code.INVALID_ARGUMENT, "etcdserver: user name is empty")
_UNKNOWN: Final = refusal(Code.UNAUTHENTICATED, "etcdserver: invalid auth token")


def secret_of(metadata: Mapping[str, str]) -> str:
    """The token that a client presents: ``token``, or ``authorization``, bare or as a bearer's."""
    found = metadata.get("token") or metadata.get("authorization") or ""
    return found.removeprefix("Bearer ").removeprefix("bearer ")


def guarded(methods: Sequence[Method]) -> list[Method]:
    """The same methods behind the guard. A stranger's watch is refused watch by watch, by its own handler."""
    return [
        method
        if method.path in FREE or method.path.startswith("/grpc.health.") or method.path == _WATCH
        else method._replace(handler=_behind(method.handler))
        for method in methods
    ]


def _behind(handler: Callable[[Call, Reader], Verb]) -> Callable[[Call, Reader], Verb]:
    def judged(call: Call, reader: Reader) -> Verb:
        if reader.is_guarded(SPACE):
            actor = call.actor
            if not (actor.token_id or actor.management or actor.internal):
                return _UNKNOWN if secret_of(call.metadata) else _EMPTY
        return handler(call, reader)

    return judged
