"""Keys and catalogue beside each other: random commands, silences and restarts, while ties come and go.

What the ties promise is checked after every commit by ``State.check``, which compares both sides as plainly as can be.
Here a watcher of the exported keys keeps its own map by events alone, and a plain model says which keys are instances.
"""

from __future__ import annotations

import json
from typing import Any

from core_keys_world import KeysWorld
from core_world import WEB, replay
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from townhall.core import Rules, commands
from townhall.core.codec import dump_state, load_state
from townhall.model.errors import TownhallError
from townhall.model.instance import ServiceKey, Verdict
from townhall.model.keys import Delete, Operation, Put
from townhall.model.lease import LeaseKind
from townhall.model.tie import Direction, Tie

DB = ServiceKey("default", "default", "db")
IMPORTS = (
    Tie("etcd", b"service/", "naming", Direction.IMPORT),
    Tie("etcd", b"user.", "go-zero", Direction.IMPORT, group="g"),
)
EXPORTS = (
    Tie("etcd", b"all/", "naming", Direction.EXPORT),
    Tie("etcd", b"g/", "kitex", Direction.EXPORT, group="g"),
    Tie("other", b"x/", "kratos", Direction.EXPORT),
)
services = st.sampled_from((WEB, WEB, DB))
ids = st.sampled_from("abc")
space_keys = st.sampled_from((b"service/web/1", b"service/web/2", b"service/db/1", b"service/deep/er/1", b"user.rpc/7"))
values = st.sampled_from(
    (b'{"Op":0,"Addr":"127.0.0.1:1","Metadata":null}', b'{"Addr":"127.0.0.1:2"}', b'{"Op":1}', b"127.0.0.1:3", b"")
)


class TiesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = KeysWorld(Rules(registry_floor_instances_min=4))
        self.watched: dict[bytes, bytes] = {}
        self.seen = 1

    def do(self, command: Any) -> None:
        try:
            self.world.run(command)
        except TownhallError as error:
            assert error.code != "internal"  # noqa: PT017 - refusals are fine here

    def transact(self, *operations: Operation) -> None:
        try:
            self.world.do(*operations)
        except TownhallError as error:
            assert error.code in {"lease_not_found", "conflict", "invalid_field"}  # noqa: PT017

    @initialize()
    def begin(self) -> None:
        self.do(commands.PutLayouts((*IMPORTS, *EXPORTS)))

    @rule(imports=st.sets(st.sampled_from(IMPORTS)), exports=st.sets(st.sampled_from(EXPORTS)))
    def tie(self, imports: set[Tie], exports: set[Tie]) -> None:
        self.do(commands.PutLayouts(tuple(sorted(imports | exports, key=lambda tie: tie.prefix))))

    @rule(key=space_keys, value=values, lease=st.sampled_from((0, 1, 2, 3)))
    def put(self, key: bytes, value: bytes, lease: int) -> None:
        self.transact(Put(key, value, lease=lease))

    @rule(first=space_keys, second=space_keys, value=values)
    def put_and_delete(self, first: bytes, second: bytes, value: bytes) -> None:
        self.transact(Put(first, value), Delete(second))

    @rule(span=st.sampled_from(((b"service/web/1", b""), (b"service/", b"service0"), (b"a", b"\0"), (b"s", b"\0"))))
    def delete(self, span: tuple[bytes, bytes]) -> None:
        self.transact(Delete(*span))

    @rule(
        key=services,
        id=ids,
        port=st.sampled_from((0, 80, 81)),
        lease=st.sampled_from((0, 0, 3)),
        node=st.sampled_from(("", "m")),
    )
    def register(self, **fields: Any) -> None:
        self.do(commands.Register(address="127.0.0.1", **fields))

    @rule(key=services, id_=ids | st.sampled_from(("etcd:service/web/1", "etcd:service/db/1")))
    def deregister(self, key: ServiceKey, id_: str) -> None:
        self.do(commands.Deregister(key=key, id=id_))

    @rule(key=services, id_=ids | st.just("etcd:service/web/1"), verdict=st.sampled_from((None, Verdict.DOWN)))
    def override(self, key: ServiceKey, id_: str, verdict: Verdict | None) -> None:
        self.do(commands.SetOverride(key=key, id=id_, verdict=verdict))

    @rule(id_=st.sampled_from((1, 2, 3)))
    def grant(self, id_: int) -> None:
        self.do(commands.GrantLease(id=id_, kind=LeaseKind.INSTANCE if id_ == 3 else LeaseKind.KEYS))

    @rule(data=st.data())
    def silence(self, data: st.DataObject) -> None:
        known = sorted(self.world.state.leases)
        if known:
            some = data.draw(st.lists(st.sampled_from(known), unique=True))
            self.do(commands.LapseLeases(leases=tuple((id_, 1) for id_ in some)))

    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        if self.world.state.leases:
            self.do(commands.RecoverLease(id=data.draw(st.sampled_from(sorted(self.world.state.leases)))))

    @rule(wait_ms=st.sampled_from((0, 31_000)))
    def sweep(self, wait_ms: int) -> None:
        self.world.wait(wait_ms)
        self.do(commands.Sweep(count_max=100))

    @rule(node=st.just("m"))
    def delete_node(self, node: str) -> None:
        self.do(commands.DeleteNode(name=node))

    @rule()
    def restart(self) -> None:
        self.world.state = load_state(list(dump_state(self.world.state)))

    @invariant()
    def a_watcher_knows_what_stands(self) -> None:
        space = self.world.state.spaces.get("etcd")
        if space is None:
            return
        for event in self.world.reader.key_events("etcd", b"all/", b"all0", self.seen):
            assert event.revision > self.seen or event.revision == space.revision
            if event.after is None:
                assert self.watched.pop(event.key, None) is not None
            else:
                self.watched[event.key] = event.after.value
        self.seen = space.revision
        assert self.watched == {kv.key: kv.value for kv in self.world.reader.range("etcd", b"all/", b"all0").kvs}

    @invariant()
    def keys_are_instances(self) -> None:
        ties = self.world.state.ties
        if ties is None or IMPORTS[0] not in ties.all or "etcd" not in self.world.state.spaces:
            return
        wanted = set()
        for kv in self.world.reader.range("etcd", b"service/", b"service0").kvs:
            parts = kv.key.decode().split("/")
            try:
                content = json.loads(kv.value)
            except ValueError:
                continue
            if len(parts) == 3 and isinstance(content, dict) and content.get("Addr") and not content.get("Op"):
                wanted.add((parts[1], f"etcd:{kv.key.decode()}", kv.lease))
        found = {
            (key.name, instance.id, instance.lease)
            for key in (WEB, DB)
            for instance in self.world.reader.instances(key)
            if instance.id.startswith("etcd:")
        }
        assert found == wanted

    def teardown(self) -> None:
        again = replay(self.world.journal)
        again.check()
        assert {name: list(space.dump()) for name, space in again.spaces.items()} == {
            name: list(space.dump()) for name, space in self.world.state.spaces.items()
        }


TestTies = TiesMachine.TestCase
TestTies.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
