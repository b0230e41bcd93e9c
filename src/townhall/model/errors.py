"""Everything that can go wrong, in one tree, split by who must act.

::

    TownhallError
    ├── Misuse                 the caller asked for something malformed; asking again the same way fails again
    │   ├── InvalidField       a field's value is out of bounds or of the wrong form
    │   ├── UnknownField       a field that does not exist
    │   ├── Malformed          the message itself cannot be read (syntax, encoding, duplicate keys, nesting)
    │   └── TooLarge           over a limit of size or count
    ├── Refused                well formed, but the state of the registry says no
    │   ├── NotFound           no such service, instance, key, lease, token
    │   ├── AlreadyExists      it is there already
    │   ├── Conflict           a compare failed, or it is in use
    │   ├── Fenced             a stale incarnation or lease epoch: somebody newer owns this
    │   ├── LeaseNotFound      the lease has ended; register again
    │   ├── Compacted          the history asked for is gone; list again
    │   ├── OverLimit          a limit on how much the registry holds or accepts at once
    │   ├── Unauthenticated    no token, or one that is unknown or expired
    │   └── Denied             the token's policies do not allow it
    ├── Unavailable            nothing is wrong with the request; try again, perhaps elsewhere
    │   ├── EngineFull         the disk is full: reads go on, writes are refused
    │   ├── EngineFailed       the journal cannot be written or read
    │   ├── OutcomeUnknown     the write may or may not have been made durable
    │   └── Stopping           the server is shutting down
    ├── Damaged                stored bytes are not what was written; carries position and what can be saved
    ├── Unreachable            SDK: no registry answered
    ├── NoInstance             SDK: no instance of the service may be called
    └── PeerMisbehaved         SDK: the answer is not one a Townhall gives
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AlreadyExists", "Compacted", "Conflict", "Damaged", "Denied", "EngineFailed", "EngineFull", "Fenced",
    "InvalidField", "LeaseNotFound", "Malformed", "Misuse", "NoInstance", "NotFound", "OutcomeUnknown", "OverLimit",
    "PeerMisbehaved", "Refused", "Stopping", "TooLarge", "TownhallError", "Unauthenticated", "Unavailable",
    "UnknownField", "Unreachable",
]  # fmt: skip


class TownhallError(Exception):
    """The root. ``code`` is stable and meant for programs; ``message`` says what, ``advice`` what to do next.

    ``fields`` are the typed details (a field's name, a limit, a position) that faces may render.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, advice: str = "", **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.fields: dict[str, object] = fields

    def __str__(self) -> str:
        return f"{self.message} ({self.advice})" if self.advice else self.message


class Misuse(TownhallError):
    """The caller must change the request."""

    code = "misuse"


class InvalidField(Misuse):
    """A field's value is out of bounds or of the wrong form; ``fields["field"]`` names it."""

    code = "invalid_field"

    def __init__(self, field: str, message: str, *, advice: str = "") -> None:
        super().__init__(f"{field}: {message}", advice=advice, field=field)


class UnknownField(Misuse):
    """A field that does not exist; ``fields["field"]`` names it."""

    code = "unknown_field"

    def __init__(self, field: str, *, advice: str = "") -> None:
        super().__init__(f"unknown field {field!r}", advice=advice, field=field)


class Malformed(Misuse):
    """The message cannot be read at all."""

    code = "malformed"


class TooLarge(Misuse):
    """Over a limit of size or count; ``fields["limit"]`` is that limit."""

    code = "too_large"


class Refused(TownhallError):
    """Well formed, but the state of the registry says no."""

    code = "refused"


class NotFound(Refused):
    """No such thing."""

    code = "not_found"


class AlreadyExists(Refused):
    """It is there already."""

    code = "already_exists"


class Conflict(Refused):
    """A compare failed, or it is in use."""

    code = "conflict"


class Fenced(Refused):
    """A stale incarnation or lease epoch: somebody newer owns this."""

    code = "fenced"


class LeaseNotFound(Refused):
    """The lease has ended or never was; whoever held it registers again."""

    code = "lease_not_found"


class Compacted(Refused):
    """The history asked for is gone; ``fields["oldest"]`` is the first position still held. List again."""

    code = "compacted"


class OverLimit(Refused):
    """A limit on how much the registry holds or accepts at once; ``fields["limit"]`` is that limit."""

    code = "over_limit"


class Unauthenticated(Refused):
    """No token where one is needed, or one that is unknown or expired."""

    code = "unauthenticated"


class Denied(Refused):
    """The token's policies do not allow it; ``fields["right"]`` and ``fields["resource"]`` say what was missing."""

    code = "denied"


class Unavailable(TownhallError):
    """Nothing is wrong with the request: try again, perhaps elsewhere."""

    code = "unavailable"


class EngineFull(Unavailable):
    """The disk is full. Reads go on; writes are refused until there is room."""

    code = "engine_full"


class EngineFailed(Unavailable):
    """The journal cannot be written or read."""

    code = "engine_failed"


class OutcomeUnknown(Unavailable):
    """The write may or may not have been made durable; read before trying again."""

    code = "outcome_unknown"


class Stopping(Unavailable):
    """The server is shutting down."""

    code = "stopping"


class Damaged(TownhallError):
    """Stored bytes are not what was written. ``fields``: ``position`` of the first bad entry, ``salvageable`` entries."""

    code = "damaged"


class Unreachable(TownhallError):
    """SDK: no registry answered."""

    code = "unreachable"


class NoInstance(TownhallError):
    """SDK: no instance of the service may be called; ``fields["service"]`` names it."""

    code = "no_instance"


class PeerMisbehaved(TownhallError):
    """SDK: the answer is not one that a Townhall gives."""

    code = "peer_misbehaved"
