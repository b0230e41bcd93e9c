"""What all services answer with: a message behind the header, or a code and a text.

Handlers raise what the core refuses with; the face makes etcd's codes and texts of it. Only what a service says in
words of its own is a ``refusal``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from townhall.core import Command, Outcome
from townhall.core.live import Work
from townhall.core.queries import Reader
from townhall.face import Park, Reply, Submit
from townhall.face.etcd.member import SPACE, Identity
from townhall.face.grpc import Code
from townhall.model.errors import TownhallError, Unavailable
from townhall.model.limits import WORK_WAIT_MS
from townhall.wire.protobuf import Message
from townhall.wire.protobuf_encode import encode

__all__ = ["after_work", "answer", "bare", "outcome_of", "refusal"]


def answer(identity: Identity, reader: Reader, message: Message, *, revision: int = -1) -> Reply:
    """A message without its header, which is put before it: of now, unless a revision is given; 0 leaves it out."""
    at = reader.space_revision(SPACE) if revision < 0 else revision
    return Reply(Code.OK, identity.header.at(at) + encode(message))


def bare(message: Message) -> Reply:
    """A message that has no header."""
    return Reply(Code.OK, encode(message))


def refusal(code: Code, text: str) -> Reply:
    """An error in etcd's words."""
    return Reply(code, text.encode())


def outcome_of(results: Sequence[Outcome | TownhallError]) -> Outcome:
    """What became of the one command that was submitted. Raises what it was refused with."""
    outcome = results[0]
    if isinstance(outcome, TownhallError):
        raise outcome
    return outcome


def after_work(work: Work, then: Callable[[Reader, Any], Reply | Submit]) -> Park:
    """Wait for slow work, then go on with its result."""

    def attempt(reader: Reader, expired: bool) -> Reply | Submit | None:
        if work.error is not None:
            raise work.error
        if work.done:
            return then(reader, work.result)
        if expired:
            work.unwanted = True
            raise Unavailable("etcdserver: request timed out")
        return None

    def abandoned() -> Sequence[Command]:
        work.unwanted = True
        return ()

    return Park((work.interest,), attempt, WORK_WAIT_MS, abandoned)
