"""The whole etcd face over a real core without sockets: unary calls, and streams that are woken as the driver does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from etcd_calls import IDENTITY, Calls, messages
from native_world import View

from townhall.core import Changes, Interest, Outcome, Rules
from townhall.core.interest import InterestIndex
from townhall.face import Duplex, Follow, Reply, Submit, Unfollow, Verb
from townhall.face.etcd.guarded import secret_of
from townhall.face.etcd.member import SPACE
from townhall.face.etcd.routes import EtcdFace
from townhall.face.grpc import Call
from townhall.model.access import Actor
from townhall.model.errors import TownhallError
from townhall.wire.etcd import kv, watch
from townhall.wire.protobuf import Message
from townhall.wire.protobuf_encode import encode

KV = "/etcdserverpb.KV"
LEASE = "/etcdserverpb.Lease"
WATCH = "/etcdserverpb.Watch/Watch"


class EtcdWorld(Calls):
    """Views and followed cursors hear of every commit, as from the hub."""

    def __init__(self, rules: Rules | None = None) -> None:
        super().__init__(rules)
        self.etcd = EtcdFace(IDENTITY)
        self.methods = {method.path: method for method in self.etcd.methods}
        self.index: InterestIndex[Any] = InterestIndex()
        self.views: list[View] = []
        self._call: Call | None = None

    def view(self, interests: Sequence[Interest]) -> View:
        view = View(interests)
        self.index.add(interests, view)
        self.views.append(view)
        return view

    def run(self, command: Any, actor: Actor = Actor(internal=True)) -> Outcome | TownhallError:  # noqa: B008
        before = self.reader().space_revision(SPACE)
        outcome = super().run(command, actor)
        touched = [
            (SPACE, event.key)
            for event in self.reader().key_events(SPACE, b"\0", b"\0", before)
            if self.reader().space_revision(SPACE) > before
        ]
        for waiter in self.index.match(Changes(self.state.position, keys=touched)):
            if isinstance(waiter, View):
                waiter.fresh = False
            else:
                waiter.since(before + 1) if waiter.since is not None else waiter.wake()
        # As the writer does: refused, although its facts are journaled.
        return outcome.result if isinstance(outcome, Outcome) and isinstance(outcome.result, TownhallError) else outcome

    def call(self, path: str, message: Message | bytes = b"", token: str = "") -> Verb:
        data = message if isinstance(message, bytes) else encode(message)
        metadata = {"token": token} if token else {}
        actor = self.actor(secret_of(metadata))
        self._call = Call(path, metadata, data, "127.0.0.1:9", actor, self)
        try:
            return self.methods[path].handler(self._call, self.reader(actor))
        except TownhallError as error:
            return self.error(error)

    def error(self, error: TownhallError) -> Reply:
        return self.etcd.error(error, self._call)

    # --- shorthands

    def put(self, key: bytes, value: bytes = b"v", **fields: Any) -> kv.PutResponse:
        return self.get(f"{KV}/Put", kv.PutRequest(key=key, value=value, **fields), kv.PutResponse)

    def range(self, key: bytes, **fields: Any) -> kv.RangeResponse:
        return self.get(f"{KV}/Range", kv.RangeRequest(key=key, **fields), kv.RangeResponse)

    def delete(self, key: bytes, **fields: Any) -> kv.DeleteRangeResponse:
        return self.get(f"{KV}/DeleteRange", kv.DeleteRangeRequest(key=key, **fields), kv.DeleteRangeResponse)

    def txn(
        self,
        compare: Sequence[kv.Compare] = (),
        success: Sequence[kv.RequestOp] = (),
        failure: Sequence[kv.RequestOp] = (),
    ) -> kv.TxnResponse:
        return self.get(f"{KV}/Txn", kv.TxnRequest(compare, success, failure), kv.TxnResponse)

    def compact(self, revision: int) -> kv.CompactionResponse:
        return self.get(f"{KV}/Compact", kv.CompactionRequest(revision=revision), kv.CompactionResponse)


class Streamed:
    """One duplex call: what is followed is woken by the world, and pulled when the test asks for messages."""

    def __init__(self, world: EtcdWorld, path: str, type_: type[Any], token: str = "") -> None:
        verb = world.call(path, b"", token)
        assert isinstance(verb, Duplex), verb
        self.world = world
        self.duplex = verb
        self.type = type_
        self.token = token
        self.follows: dict[object, Follow] = {}
        self.pulls = 0

    def say(self, message: Message) -> list[Any]:
        """What is answered at once, and what is pulled after it."""
        told = b""
        reader = self.world.reader(self.world.actor(self.token))
        for step in self.duplex.receive(reader, encode(message)):
            if isinstance(step, Follow):
                self.unfollow(step.name)
                self.follows[step.name] = step
                self.world.index.add((step.interest,), step)
            elif isinstance(step, Unfollow):
                self.unfollow(step.name)
            else:
                assert not isinstance(step, Submit)
                told += step
        return messages(told, self.type) + self.hear()

    def unfollow(self, name: object) -> None:
        gone = self.follows.pop(name, None)
        if gone is not None:
            self.world.index.remove((gone.interest,), gone)

    def hear(self) -> list[Any]:
        """What there is to hear now."""
        found: list[Any] = []
        more = True
        while more:
            pulled = self.duplex.stream.pull(self.world.reader(self.world.actor(self.token)))
            self.pulls += 1
            found += messages(pulled.data, self.type) if pulled is not None else []
            more = pulled is not None and pulled.more
        return found


def watching(world: EtcdWorld, token: str = "") -> Streamed:
    return Streamed(world, WATCH, watch.WatchResponse, token)


def create(key: bytes, **fields: Any) -> watch.WatchRequest:
    return watch.WatchRequest(create_request=watch.WatchCreateRequest(key=key, **fields))
