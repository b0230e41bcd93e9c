"""The services of the etcd face over a real core without sockets: calls methods and carries out their verbs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from native_world import World

from townhall.core import Rules
from townhall.core.access import resolve
from townhall.core.live import Work
from townhall.core.passwords import hash_password, password_matches
from townhall.face import EndOfStream, Park, Reply, Stream, Submit, Verb
from townhall.face.etcd.auth import AuthService
from townhall.face.etcd.cluster import ClusterService
from townhall.face.etcd.elections import ElectionService
from townhall.face.etcd.guarded import guarded, secret_of
from townhall.face.etcd.health import methods as health_methods
from townhall.face.etcd.locks import LockService
from townhall.face.etcd.maintenance import MaintenanceService
from townhall.face.etcd.member import identity
from townhall.face.grpc import Call, Code, Method
from townhall.hub.clock import SimulatedClock
from townhall.hub.logins import Logins
from townhall.model.access import Actor
from townhall.model.errors import (
    Denied,
    InvalidField,
    LeaseNotFound,
    Malformed,
    OverLimit,
    TownhallError,
    Unauthenticated,
    Unavailable,
)
from townhall.wire.protobuf import Message
from townhall.wire.protobuf_decode import decode
from townhall.wire.protobuf_encode import encode

IDENTITY = identity(name="n1", datacenter="dc1", client_url="http://127.0.0.1:2379")
M = TypeVar("M", bound=Message)

_ERRORS: dict[type[TownhallError], tuple[Code, str]] = {
    Denied: (Code.PERMISSION_DENIED, "etcdserver: permission denied"),
    Unauthenticated: (Code.UNAUTHENTICATED, "etcdserver: invalid auth token"),
    LeaseNotFound: (Code.NOT_FOUND, "etcdserver: requested lease not found"),
    OverLimit: (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
    InvalidField: (Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
    Malformed: (Code.INVALID_ARGUMENT, "malformed"),
}


def methods_of_services() -> Sequence[Method]:
    services = (AuthService, ClusterService, MaintenanceService, LockService, ElectionService)
    return [method for service in services for method in service(IDENTITY).methods()] + list(health_methods())


class Calls(World):
    """Implements ``core.live.Live`` with cheap hashes, done at once unless ``slow``."""

    def __init__(self, rules: Rules | None = None) -> None:
        super().__init__(rules)
        self.methods = {method.path: method for method in guarded(methods_of_services())}
        self.clock = SimulatedClock()
        self.logins = Logins(state=self.state, clock=self.clock, ids=self.ids)
        self.slow: list[Callable[[], None]] | None = None
        """Work that is not done yet, when a test wants to look in between."""

    # --- Live

    def work(self, function: Callable[[], Any], asker: str) -> Work:
        work = Work(("work", 1))

        def finish() -> None:
            work.result, work.done = function(), True

        if self.slow is None:
            finish()
        else:
            self.slow.append(finish)
        return work

    def hash_password(self, password: str, asker: str) -> Work:
        return self.work(lambda: hash_password(password, b"salt", cost=4), asker)

    def check_password(self, password: str, stored: bytes, asker: str) -> Work:
        return self.work(lambda: password_matches(password, stored), asker)

    def recognises(self, secret: str) -> bool:
        return bool(self.actor(secret).token_id) if secret else False

    def login(self, space: str, user: str) -> str:
        return self.logins.login(space, user)

    # --- calling

    def call(self, path: str, message: Message | bytes = b"", token: str = "") -> Verb:
        """What the handler returns; refusals become replies."""
        data = message if isinstance(message, bytes) else encode(message)
        metadata = {"token": token} if token else {}
        actor = self.actor(secret_of(metadata))
        call = Call(path, metadata, data, "127.0.0.1:9", actor, self)
        try:
            return self.methods[path].handler(call, self.reader(actor))
        except TownhallError as error:
            return self.error(error)

    def actor(self, secret: str) -> Actor:
        user = self.logins.resolve(secret, address="", restricted=False)
        return user or resolve(self.state, self.rules, secret=secret, address="", now_ms=self.now)

    def ask(self, path: str, message: Message | bytes = b"", token: str = "") -> Reply:
        """A unary call to its end; one that would wait for anybody else is a failure of the test."""
        return self.settle(self.call(path, message, token), self.actor(token))

    def settle(self, verb: Verb, actor: Actor) -> Reply:
        while not isinstance(verb, Reply):
            verb = self.step(verb, actor)
        return verb

    def step(self, verb: Verb, actor: Actor) -> Verb:
        """One step further. A Park that goes on waiting is an AssertionError."""
        try:
            if isinstance(verb, Submit):
                return verb.render(self.reader(actor), [self.run(command, actor) for command in verb.commands])
            assert isinstance(verb, Park)
            further = verb.attempt(self.reader(actor), False)
            assert further is not None, "it waits"
            return further
        except TownhallError as error:
            return self.error(error)

    def until_parked(self, verb: Verb, actor: Actor) -> Park:
        """Carry out what comes before the waiting."""
        while True:
            if isinstance(verb, Park) and verb.attempt(self.reader(actor), False) is None:
                return verb
            assert not isinstance(verb, Reply), verb.body
            verb = self.step(verb, actor)

    def error(self, error: TownhallError) -> Reply:
        if isinstance(error, Unavailable):
            return Reply(Code.UNAVAILABLE, error.message.encode())
        code, text = _ERRORS[type(error)]
        return Reply(code, text.encode())

    def get(self, path: str, message: Message | bytes, type_: type[M], token: str = "") -> M:
        """The message of a good answer."""
        return self.message(self.ask(path, message, token), type_)

    def message(self, reply: Reply, type_: type[M]) -> M:
        assert reply.status is Code.OK, reply.body
        return decode(type_, reply.body)

    def refused(self, path: str, message: Message | bytes = b"", token: str = "") -> tuple[str, str]:
        """Name of the code, and the text."""
        reply = self.ask(path, message, token)
        assert reply.status is not Code.OK
        return Code(reply.status).name, reply.body.decode()


def pulled(world: World, stream: Stream, type_: type[M]) -> list[M]:
    """What a stream gives now, as messages."""
    found: list[M] = []
    more = True
    while more:
        try:
            step = stream.pull(world.reader())
        except EndOfStream as end:
            return found + messages(end.data, type_)
        more = step is not None and step.more
        found += messages(step.data, type_) if step is not None else []
    return found


def messages(data: bytes, type_: type[M]) -> list[M]:
    """The messages of framed bytes."""
    found = []
    while data:
        assert data[0] == 0
        size = int.from_bytes(data[1:5], "big")
        found.append(decode(type_, data[5 : 5 + size]))
        data = data[5 + size :]
    return found
