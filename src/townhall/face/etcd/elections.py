"""The Election service (v3electionpb): the leader is the first of the keys below the election's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from townhall.core import KeyRange, Outcome
from townhall.core.commands import Transact, TransactResult
from townhall.core.queries import Reader
from townhall.face import Pulled, Stream, Submit, Verb
from townhall.face.etcd.answers import answer, refusal
from townhall.face.etcd.member import SPACE, Identity
from townhall.face.etcd.waiting import Turn, first_created, no_turns, prefix_end, prefix_of, told, with_lease
from townhall.face.grpc import Call, Code, Kind, Method, framed
from townhall.model.errors import Compacted, TownhallError
from townhall.model.keys import Compare, CompareTarget, Delete, KeyValue, Operation, Put, Relation, Transaction
from townhall.wire.etcd import concurrency, kv
from townhall.wire.protobuf_decode import decode

__all__ = ["ElectionService", "Observation"]

_NO_LEADER: Final = refusal(Code.UNKNOWN, "election: no leader")
_NOT_LEADER: Final = refusal(Code.UNKNOWN, "election: not leader")
_NO_LEADER_KEY: Final = refusal(Code.UNKNOWN, '"leader" field must be provided')


class ElectionService:
    """``v3electionpb.Election``."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._turns = no_turns()

    def methods(self) -> Sequence[Method]:
        """The rows of the face's table."""
        prefix = "/v3electionpb.Election"
        return [
            Method(f"{prefix}/Campaign", self.campaign),
            Method(f"{prefix}/Proclaim", self.proclaim),
            Method(f"{prefix}/Leader", self.leader),
            Method(f"{prefix}/Observe", self.observe, Kind.SERVER_STREAM),
            Method(f"{prefix}/Resign", self.resign),
        ]

    def campaign(self, call: Call, reader: Reader) -> Verb:
        """Answer when elected. The same lease again takes its new value at once."""
        request = decode(concurrency.CampaignRequest, call.message)

        def begin(lease: int) -> Verb:
            own = request.lease == 0
            turn = Turn(
                call.live,
                self._turns,
                request.name,
                lease,
                own,
                request.value,
                reached=self._elected,
                changed=self._proclaim_anew,
            )
            return turn.begin()

        return with_lease(reader, request.name, request.lease, begin)

    def _elected(self, reader: Reader, turn: Turn, created: int, revision: int) -> Verb:
        leader = concurrency.LeaderKey(turn.name, turn.key, created, turn.lease)
        return answer(self._identity, reader, concurrency.CampaignResponse(leader=leader), revision=revision)

    def _proclaim_anew(self, reader: Reader, turn: Turn, found: KeyValue) -> Verb | None:
        if found.value == turn.value:
            return None

        def done(reader: Reader, result: TransactResult) -> Verb:
            if not result.succeeded:
                return _NOT_LEADER
            return turn.wait(reader, found.create_revision, result.revision)

        return _while_leader(found.key, found.create_revision, Put(found.key, turn.value, turn.lease), done)

    def proclaim(self, call: Call, reader: Reader) -> Verb:
        """Another value for the leader."""
        request = decode(concurrency.ProclaimRequest, call.message)
        leader = request.leader
        if leader is None:
            return _NO_LEADER_KEY

        def done(reader: Reader, result: TransactResult) -> Verb:
            if not result.succeeded:
                return _NOT_LEADER
            return answer(self._identity, reader, concurrency.ProclaimResponse(), revision=result.revision)

        return _while_leader(leader.key, leader.rev, Put(leader.key, request.value, leader.lease), done)

    def resign(self, call: Call, reader: Reader) -> Verb:
        """Lead no more. Who does not lead has nothing to give up."""
        leader = decode(concurrency.ResignRequest, call.message).leader
        if leader is None:
            return _NO_LEADER_KEY

        def done(reader: Reader, result: TransactResult) -> Verb:
            return answer(self._identity, reader, concurrency.ResignResponse(), revision=result.revision)

        return _while_leader(leader.key, leader.rev, Delete(leader.key), done)

    def leader(self, call: Call, reader: Reader) -> Verb:
        """Who leads now."""
        name = decode(concurrency.LeaderRequest, call.message).name
        _require(reader, name)
        found = first_created(reader, name)
        if found is None:
            return _NO_LEADER
        return answer(self._identity, reader, concurrency.LeaderResponse(kv=_shown(found)))

    def observe(self, call: Call, reader: Reader) -> Verb:
        """Who leads now, and every value and leader that comes."""
        name = decode(concurrency.LeaderRequest, call.message).name
        _require(reader, name)
        prefix = prefix_of(name)
        interest = KeyRange(SPACE, prefix, prefix_end(prefix))
        return Stream((interest,), Observation(self._identity, name).pull, content_type=b"application/grpc")


class Observation:
    """What one observer has been told."""

    __slots__ = ("_after", "_identity", "_key", "_name")

    def __init__(self, identity: Identity, name: bytes) -> None:
        self._identity = identity
        self._name = name
        self._key = b""
        """The leader's; b"" while there is none."""
        self._after = 0
        """Told up to this revision."""

    def pull(self, reader: Reader) -> Pulled | None:
        """Every value of the leader in order; when it goes, whoever is first then."""
        told: list[bytes] = []
        while True:
            if not self._key:
                leader = first_created(reader, self._name)
                if leader is None:
                    break
                self._key, self._after = leader.key, reader.space_revision(SPACE)
                told.append(self._message(leader, self._after, reader))
            if not self._follow(reader, told):
                break
        return Pulled(b"".join(told)) if told else None

    def _follow(self, reader: Reader, told: list[bytes]) -> bool:
        """Tell what the leader said since; True when the leader is gone."""
        try:
            events = reader.key_events(SPACE, self._key, b"", self._after)
        except Compacted:
            self._key = b""
            return True
        for event in events:
            self._after = event.revision
            if event.after is None:
                self._key = b""
                return True
            told.append(self._message(event.after, event.revision, reader))
        return False

    def _message(self, found: KeyValue, revision: int, reader: Reader) -> bytes:
        message = concurrency.LeaderResponse(kv=_shown(found))
        return framed(answer(self._identity, reader, message, revision=revision).body)


def _while_leader(
    key: bytes, created: int, operation: Operation, then: Callable[[Reader, TransactResult], Verb]
) -> Submit:
    """Do it if the key is still the one that was created then."""

    def done(reader: Reader, results: Sequence[Outcome | TownhallError]) -> Verb:
        outcome = results[0]
        if isinstance(outcome, TownhallError):
            return told(outcome)
        assert isinstance(outcome.result, TransactResult)
        return then(reader, outcome.result)

    compare = Compare(key, CompareTarget.CREATE, Relation.EQUAL, created)
    return Submit((Transact(space=SPACE, transaction=Transaction((compare,), (operation,)), alarm=True),), done)


def _require(reader: Reader, name: bytes) -> None:
    prefix = prefix_of(name)
    reader.require_range(SPACE, prefix, prefix_end(prefix))


def _shown(found: KeyValue) -> kv.KeyValue:
    return kv.KeyValue(found.key, found.create_revision, found.mod_revision, found.version, found.value, found.lease)
