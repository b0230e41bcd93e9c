"""The Lock service (v3lockpb): a lock is the first of the keys below its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from townhall.core import Outcome
from townhall.core.commands import Transact, TransactResult
from townhall.core.queries import Reader
from townhall.face import Submit, Verb
from townhall.face.etcd.answers import answer, refusal
from townhall.face.etcd.member import SPACE, Identity
from townhall.face.etcd.waiting import Turn, no_turns, told, with_lease
from townhall.face.grpc import Call, Code, Method
from townhall.model.errors import TownhallError
from townhall.model.keys import Delete, KeyValue, Transaction
from townhall.wire.etcd import concurrency
from townhall.wire.protobuf_decode import decode

__all__ = ["LockService"]

_NO_KEY: Final = refusal(Code.UNKNOWN, "etcdserver: key is not provided")


class LockService:
    """``v3lockpb.Lock``."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._turns = no_turns()

    def methods(self) -> Sequence[Method]:
        """The rows of the face's table."""
        return [Method("/v3lockpb.Lock/Lock", self.lock), Method("/v3lockpb.Lock/Unlock", self.unlock)]

    def lock(self, call: Call, reader: Reader) -> Verb:
        """Answer when the lock is held. The same lease again holds it already."""
        request = decode(concurrency.LockRequest, call.message)

        def begin(lease: int) -> Verb:
            own = request.lease == 0
            turn = Turn(
                call.live, self._turns, request.name, lease, own, b"", reached=self._reached, changed=_nothing_more
            )
            return turn.begin()

        return with_lease(reader, request.name, request.lease, begin)

    def _reached(self, reader: Reader, turn: Turn, created: int, revision: int) -> Verb:
        return answer(self._identity, reader, concurrency.LockResponse(key=turn.key), revision=revision)

    def unlock(self, call: Call, reader: Reader) -> Verb:
        """Delete the key, whoever has put it."""
        key = decode(concurrency.UnlockRequest, call.message).key
        if not key:
            return _NO_KEY

        def done(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Verb:
            outcome = results[0]
            if isinstance(outcome, TownhallError):
                return told(outcome)
            assert isinstance(outcome.result, TransactResult)
            return answer(self._identity, reader, concurrency.UnlockResponse(), revision=outcome.result.revision)

        return Submit((Transact(space=SPACE, transaction=Transaction(success=(Delete(key),))),), done)


def _nothing_more(reader: Reader, turn: Turn, kv: KeyValue) -> None:
    return None
