"""What goes wrong, in etcd's codes and texts (api/v3rpc/rpctypes/error.go): clients decide by both what to do next.

``told`` is the one table from the registry's errors. ``Said`` is for what a handler itself has to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from townhall.face import Reply
from townhall.face.etcd.guarded import secret_of
from townhall.face.grpc import Call, Code
from townhall.model.errors import (
    AlreadyExists,
    Compacted,
    Conflict,
    Denied,
    EngineFailed,
    EngineFull,
    InvalidField,
    LeaseNotFound,
    Malformed,
    Misuse,
    NotFound,
    OutcomeUnknown,
    OverLimit,
    Stopping,
    TooLarge,
    TownhallError,
    Unauthenticated,
    Unavailable,
)

__all__ = [
    "BAD_SORT", "COMPACTED", "DUPLICATE_KEY", "EMPTY_KEY", "FUTURE", "KEY_NOT_FOUND", "LEASE_GIVEN", "NO_SPACE",
    "TOO_LARGE", "TOO_MANY_OPERATIONS", "TTL_TOO_LARGE", "VALUE_GIVEN", "Said", "Words", "told",
]  # fmt: skip


class Words(NamedTuple):
    """A code and a text."""

    code: Code
    text: str


EMPTY_KEY: Final = Words(Code.INVALID_ARGUMENT, "etcdserver: key is not provided")
KEY_NOT_FOUND: Final = Words(Code.INVALID_ARGUMENT, "etcdserver: key not found")
VALUE_GIVEN: Final = Words(Code.INVALID_ARGUMENT, "etcdserver: value is provided")
LEASE_GIVEN: Final = Words(Code.INVALID_ARGUMENT, "etcdserver: lease is provided")
BAD_SORT: Final = Words(Code.INVALID_ARGUMENT, "etcdserver: invalid sort option")
DUPLICATE_KEY: Final = Words(Code.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")
TOO_MANY_OPERATIONS: Final = Words(Code.INVALID_ARGUMENT, "etcdserver: too many operations in txn request")
TOO_LARGE: Final = Words(Code.INVALID_ARGUMENT, "etcdserver: request is too large")
COMPACTED: Final = Words(Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE: Final = Words(Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
TTL_TOO_LARGE: Final = Words(Code.OUT_OF_RANGE, "etcdserver: too large lease TTL")
LEASE_NOT_FOUND: Final = Words(Code.NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS: Final = Words(Code.FAILED_PRECONDITION, "etcdserver: lease already exists")
NO_SPACE: Final = Words(Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
TOO_MANY_REQUESTS: Final = Words(Code.RESOURCE_EXHAUSTED, "etcdserver: too many requests")
DENIED: Final = Words(Code.PERMISSION_DENIED, "etcdserver: permission denied")
NO_USER: Final = Words(Code.INVALID_ARGUMENT, "etcdserver: user name is empty")
BAD_TOKEN: Final = Words(Code.UNAUTHENTICATED, "etcdserver: invalid auth token")
TIMED_OUT: Final = Words(Code.UNAVAILABLE, "etcdserver: request timed out")
NO_LEADER: Final = Words(Code.UNAVAILABLE, "etcdserver: no leader")
STOPPED: Final = Words(Code.UNAVAILABLE, "etcdserver: server stopped")


class Said(Misuse):
    """A refusal whose words are known where it is raised."""

    code = "said"

    def __init__(self, words: Words) -> None:
        super().__init__(words.text)
        self.words = words


def told(error: TownhallError, call: Call | None) -> Reply:
    """The reply to a call that ended with this error."""
    code, text = words_of(error, call)
    return Reply(code, text.encode())


def words_of(error: TownhallError, call: Call | None = None) -> Words:
    """Code and text of an error."""
    if isinstance(error, Said):
        return error.words
    for kind in type(error).__mro__:
        found = _WORDS.get(kind)
        if found is not None:
            return found(error, call) if callable(found) else found
    return Words(Code.UNKNOWN, f"etcdserver: {error.message}")


def _invalid(error: TownhallError, call: Call | None) -> Words:
    match error.fields.get("field"):
        case "revision":
            return FUTURE
        case "operations":
            return DUPLICATE_KEY
        case "key":
            return EMPTY_KEY
    return Words(Code.INVALID_ARGUMENT, f"etcdserver: {error.message}")


def _too_large(error: TownhallError, call: Call | None) -> Words:
    return TOO_LARGE if "field" in error.fields else TOO_MANY_OPERATIONS


def _not_found(error: TownhallError, call: Call | None) -> Words:
    return KEY_NOT_FOUND if "key" in error.fields else Words(Code.NOT_FOUND, f"etcdserver: {error.message}")


def _over_limit(error: TownhallError, call: Call | None) -> Words:
    return NO_SPACE if "space" in error.fields else TOO_MANY_REQUESTS


def _unauthenticated(error: TownhallError, call: Call | None) -> Words:
    return BAD_TOKEN if call is not None and secret_of(call.metadata) else NO_USER


def _malformed(error: TownhallError, call: Call | None) -> Words:
    # The words of grpc-go's server, whose clients know them as a bug of their own.
    return Words(Code.INTERNAL, f"grpc: error unmarshalling request: proto: {error.message}")


def _exists(error: TownhallError, call: Call | None) -> Words:
    return LEASE_EXISTS if "lease" in error.fields else Words(Code.ALREADY_EXISTS, f"etcdserver: {error.message}")


_WORDS: Final[Mapping[type, Words | Callable[[TownhallError, Call | None], Words]]] = {
    InvalidField: _invalid,
    TooLarge: _too_large,
    Malformed: _malformed,
    Misuse: lambda error, call: Words(Code.INVALID_ARGUMENT, f"etcdserver: {error.message}"),
    LeaseNotFound: LEASE_NOT_FOUND,
    NotFound: _not_found,
    AlreadyExists: _exists,
    Conflict: lambda error, call: Words(Code.FAILED_PRECONDITION, f"etcdserver: {error.message}"),
    Compacted: COMPACTED,
    OverLimit: _over_limit,
    Denied: DENIED,
    Unauthenticated: _unauthenticated,
    EngineFull: NO_SPACE,
    EngineFailed: NO_LEADER,
    OutcomeUnknown: TIMED_OUT,
    Stopping: STOPPED,
    Unavailable: TIMED_OUT,
}
