"""The Reader: what it answers, and what it keeps from whom."""

from __future__ import annotations

import pytest
from core_world import WEB, World

from townhall.core import commands
from townhall.core.queries import Reader
from townhall.model import limits
from townhall.model.access import Actor, Level, Resource, Rule
from townhall.model.errors import Compacted, Denied, LeaseNotFound, NotFound, Unauthenticated
from townhall.model.instance import ServiceKey, ServiceSettings, Verdict
from townhall.model.keys import Delete, Put, Transaction

DB = ServiceKey("other", "default", "db")


def put(world: World, key: bytes, value: bytes = b"v") -> None:
    world.run(commands.Transact(space="native", transaction=Transaction(success=(Put(key, value),))))


def test_instances_by_id():
    world = World()
    for id_ in "cab":
        world.register(id_)
    assert [instance.id for instance in world.reader.instances(WEB)] == ["a", "b", "c"]
    assert world.reader.instances(DB) == ()
    with pytest.raises(NotFound):
        world.reader.instance(WEB, "x")
    with pytest.raises(NotFound):
        world.reader.service(DB)
    assert world.reader.settings(DB) == ServiceSettings()
    assert (world.reader.position, world.reader.time_ms) == (3, world.now_ms)


def test_the_protect_threshold_shows_all_that_nobody_keeps_out():
    world = World()
    world.run(commands.PutService(key=WEB, settings=ServiceSettings(floor=0.0, protect=0.5)))
    for id_ in "abcd":
        world.register(id_)
    world.run(commands.SetMaintenance(key=WEB, id="a", reason="disk"))
    assert world.callable_ids() == ["b", "c", "d"]
    world.run(commands.SetOverride(key=WEB, id="b", verdict=Verdict.DOWN))
    assert world.callable_ids() == ["c", "d"], "half are healthy, and those kept out on purpose stay out"
    world.run(commands.PatchInstance(key=WEB, id="b", zone="z"))
    world.run(commands.SetOverride(key=WEB, id="b", verdict=None))
    world.run(commands.MarkReported(key=WEB, id="b", incarnation=world.instance("b").incarnation, report="failed"))
    assert world.callable_ids() == ["b", "c", "d"]


def test_services():
    world = World()
    world.register("a", tags=("x", "v1"))
    world.register("b", tags=("v2",))
    world.register("a", key=DB)
    world.run(commands.PutService(key=DB, metadata={"team": "x"}))
    world.lapse("a", key=DB)
    web, db = world.reader.services()
    assert (web.key, web.instances, web.callable, web.tags) == (WEB, 2, 2, ("v1", "v2", "x"))
    assert (db.key, db.instances, db.callable, db.metadata) == (DB, 1, 0, {"team": "x"})
    assert [row.key for row in world.reader.services("other")] == [DB]
    assert [row.key for row in world.reader.services(prefix="we")] == [WEB]
    assert world.reader.services("nowhere") == []


def test_listing_revisions():
    world = World()
    world.register("a")
    assert (world.reader.listing_revision(), world.reader.listing_revision("default")) == (1, 1)
    assert world.reader.listing_revision("other") == 0
    world.register("a", metadata={"k": "v"})
    assert world.reader.listing_revision() == 1, "no count, tag or service changed"
    world.register("a", tags=("v2",))
    assert world.reader.listing_revision() == 3
    world.run(commands.Deregister(key=WEB, id="a"))
    assert (world.reader.listing_revision(), world.reader.listing_revision("default")) == (4, 4)


def test_listings_of_namespaces_without_services_are_forgotten_upwards(monkeypatch):
    monkeypatch.setattr(limits, "REMOVED_SERVICES_REMEMBERED_MAX", 2)
    world = World()
    for n in range(5):
        key = ServiceKey(f"ns{n}", "default", "web")
        world.register("a", key=key)
        world.run(commands.Deregister(key=key, id="a"))
    assert len(world.state.listings) <= 3
    assert world.reader.listing_revision("ns0") >= 2
    assert world.reader.service_revision(ServiceKey("ns0", "default", "web")) >= 2


def test_changes_coalesce_to_the_present():
    world = World()
    world.register("a")
    world.register("b")
    world.register("a", weight=2.0)
    world.run(commands.Deregister(key=WEB, id="b"))
    world.register("c")
    delta = world.reader.changes(WEB, 1)
    assert delta.revision == 5
    assert [instance.id for instance in delta.changed] == ["a", "c"]
    assert list(delta.removed) == ["b"]
    assert world.reader.changes(WEB, 5).changed == ()
    assert world.reader.changes(DB, 0).changed == ()
    assert world.reader.changes(WEB, 0).removed == ["b"]


def test_a_revision_from_the_future_means_that_the_journal_was_lost():
    world = World()
    world.register("a")
    with pytest.raises(Compacted):
        world.reader.changes(WEB, 2)


def test_a_service_that_went_tells_how():
    world = World()
    world.register("a")
    world.run(commands.Deregister(key=WEB, id="a"))
    assert list(world.reader.changes(WEB, 1).removed) == ["a"]
    assert world.reader.service_revision(WEB) == 2
    world.register("b")
    delta = world.reader.changes(WEB, 1)
    assert ([i.id for i in delta.changed], list(delta.removed)) == (["b"], ["a"])


def test_the_log_of_a_service_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "SERVICE_LOG_COUNT_MAX", 4)
    world = World()
    for n in range(12):
        world.register("a", weight=float(n))
    log = world.state.services[WEB].log
    assert 4 <= len(log) < 8
    with pytest.raises(Compacted) as compacted:
        world.reader.changes(WEB, 1)
    oldest = compacted.value.fields["oldest"]
    assert [i.id for i in world.reader.changes(WEB, oldest).changed] == ["a"]


def test_of_removed_services_only_so_many_are_remembered(monkeypatch):
    monkeypatch.setattr(limits, "REMOVED_SERVICES_REMEMBERED_MAX", 2)
    world = World()
    keys = [ServiceKey("default", "default", f"s{n}") for n in range(4)]
    for key in keys:
        world.register("a", key=key)
    for key in keys:
        world.run(commands.Deregister(key=key, id="a"))
    assert list(world.reader.changes(keys[3], 4).removed) == ["a"]
    with pytest.raises(Compacted):
        world.reader.changes(keys[0], 4)
    assert world.reader.changes(keys[0], 6).removed == ()
    world.register("b", key=keys[0])
    with pytest.raises(Compacted):
        world.reader.changes(keys[0], 4)
    assert [i.id for i in world.reader.changes(keys[0], 6).changed] == ["b"]


def test_leases_and_sessions():
    world = World()
    world.run(commands.GrantLease(id=7))
    world.run(commands.OpenSession(id="s1", node="n"))
    assert world.reader.lease(7).id == 7
    assert [lease.id for lease in world.reader.leases()] == [7]
    assert world.reader.session("s1").node == "n"
    assert [session.id for session in world.reader.sessions()] == ["s1"]
    with pytest.raises(LeaseNotFound):
        world.reader.lease(8)
    with pytest.raises(NotFound):
        world.reader.session("s2")


def test_keys():
    world = World()
    for key in (b"a", b"b", b"c"):
        put(world, key)
    world.run(commands.Transact(space="native", transaction=Transaction(success=(Delete(b"a"),))))
    reader = world.reader
    assert reader.space_revision("native") == 5
    assert reader.space_compacted("native") == 0
    assert reader.space_size("native") > 0
    assert reader.get("native", b"a") is None
    assert reader.get("native", b"a", revision=4) is not None
    found = reader.range("native", b"a", b"z", limit=1)
    assert ([kv.key for kv in found.kvs], found.count, found.more) == ([b"b"], 2, True)
    assert [event.revision for event in reader.key_events("native", b"a", b"z", 3)] == [4, 5]
    assert reader.lock_delay_until("native", b"a") == 0


def test_lists_leave_out_what_the_actor_may_not_see():
    world = World()
    world.register("a")
    world.register("a", key=DB)
    for key in (b"mine/1", b"mine/2", b"theirs/1", b"mine/3"):
        put(world, key)
    world.run(commands.OpenSession(id="s1", node="my-node"))
    world.run(commands.OpenSession(id="s2", node="their-node"))
    rules = (
        Rule(Resource.SERVICE, Level.READ, "other/"),
        Rule(Resource.KEY, Level.READ, "native/mine/"),
        Rule(Resource.SESSION, Level.READ, "my-node"),
    )
    actor = Actor("t", rules, restricted=True)
    reader = Reader(world.state, actor)
    assert [row.key for row in reader.services()] == [DB]
    assert [session.id for session in reader.sessions()] == ["s1"]
    found = reader.range("native", b"\0", b"\0", limit=2)
    assert ([kv.key for kv in found.kvs], found.count, found.more) == ([b"mine/1", b"mine/2"], 3, True)
    assert reader.range("native", b"mine/", b"mine0").count == 3
    events = reader.key_events("native", b"\0", b"\0", 1, limit=2)
    assert [event.key for event in events] == [b"mine/1", b"mine/2"]
    assert len(reader.key_events("native", b"\0", b"\0", 1)) == 3
    assert reader.get("native", b"mine/1") is not None
    for refused in (
        lambda: reader.get("native", b"theirs/1"),
        lambda: reader.lock_delay_until("native", b"theirs/1"),
        lambda: reader.instances(WEB),
        lambda: reader.changes(WEB, 0),
        lambda: reader.floor(WEB),
        lambda: reader.service_revision(WEB),
        lambda: reader.session("s2"),
        reader.leases,
        reader.tokens,
        reader.policies,
    ):
        with pytest.raises(Denied):
            refused()
    reader.require_token()
    reader.require_range("native", b"mine/", b"mine0")
    world.run(commands.GrantLease(id=8))
    world.register("b", lease=8)
    assert (reader.open_leases, Reader(world.state, Actor(restricted=True)).open_leases) == (None, None)
    reader.require_renewal([7, 9])
    for refused in (
        lambda: reader.require_range("native", b"mine/", b"n"),
        lambda: reader.require_renewal([8]),
    ):
        with pytest.raises(Denied):
            refused()
    anonymous = Reader(world.state, Actor(restricted=True))
    with pytest.raises(Unauthenticated):
        anonymous.require_token()
    with pytest.raises(Unauthenticated):
        anonymous.require_renewal([9])
    with pytest.raises(Unauthenticated):
        anonymous.instances(WEB)
    with pytest.raises(Unauthenticated):
        anonymous.lease(7)
    with pytest.raises(LeaseNotFound):
        reader.lease(7)


def test_switching_access_on_holds_for_actors_that_came_before():
    world = World()
    world.register("a")
    before = Reader(world.state, Actor())
    assert before.instances(WEB)
    world.run(commands.BootstrapAccess())
    with pytest.raises(Unauthenticated):
        before.instances(WEB)


def test_tokens_and_policies():
    world = World()
    token, _ = world.run(commands.BootstrapAccess())
    world.run(commands.PutPolicy(name="p", rules=()))
    assert [t.id for t in world.reader.tokens()] == [token.id]
    assert [p.name for p in world.reader.policies()] == ["p"]
    assert world.reader.may(Resource.OPERATOR, Level.WRITE, "")
    world.reader.require(Resource.OPERATOR, Level.WRITE, "")


def test_floor_of_an_unknown_service():
    status = World().reader.floor(WEB)
    assert (status.ratio, status.known, status.engaged) == (limits.FLOOR_RATIO_DEFAULT, 0, False)
