"""Nodes and checks: what they make of instances, what goes with what, and what watchers learn."""

from __future__ import annotations

from typing import Any

import pytest
from core_world import WEB, World, replay

from townhall.core import Shared, commands, evolve_checks, query_checks
from townhall.core.check_index import worst
from townhall.core.claims import Claims
from townhall.core.codec import dump_state, load_state
from townhall.core.decide_checks import cut_output
from townhall.core.footprint import footprint
from townhall.core.interest import InterestIndex
from townhall.model import limits
from townhall.model.access import Actor, Level, Resource, Rule
from townhall.model.check import Check, CheckDefinition, CheckKind, CheckStatus, word_name
from townhall.model.errors import Denied, Fenced, InvalidField, NotFound, OverLimit
from townhall.model.instance import PROBED, Verdict

PASSING, WARNING, CRITICAL = CheckStatus.PASSING, CheckStatus.WARNING, CheckStatus.CRITICAL
HTTP = CheckDefinition(kind=CheckKind.HTTP, interval_ms=10_000, target="http://127.0.0.1:1/")
TTL = CheckDefinition(kind=CheckKind.TTL, ttl_ms=10_000)


def put(id_: str = "c", *, status: CheckStatus | None = None, **fields: Any) -> commands.PutCheck:
    return commands.PutCheck(**({"node": "n", "id": id_, "key": WEB, "instance": "a", "status": status} | fields))


def say(status: CheckStatus, output: str = "", id_: str = "c") -> commands.SetCheck:
    return commands.SetCheck(node="n", id=id_, status=status, output=output)


def web(**fields: Any) -> World:
    world = World()
    world.register("a", node="n", **fields)
    return world


def test_a_check_speaks_for_its_instance():
    world = web()
    assert world.instance("a").verdict is Verdict.UP
    world.run(put())
    assert world.instance("a").verdict is Verdict.DOWN
    world.run(say(PASSING))
    assert world.instance("a").verdict is Verdict.UP
    assert world.instance("a").evidence is PROBED
    world.run(say(WARNING, "slow"))
    assert world.instance("a").callable
    assert world.instance("a").evidence.probe_output == "warning: slow"
    world.run(say(CRITICAL, "refused"))
    assert (world.instance("a").verdict, world.instance("a").reason) == (Verdict.DOWN, "refused")
    world.run(commands.DeleteCheck(node="n", id="c"))
    assert world.instance("a").verdict is Verdict.UP
    assert world.instance("a").evidence.probe is None


def test_the_worst_of_several_decides():
    world = web()
    world.run(put("c", status=PASSING))
    world.run(put("d", status=WARNING))
    assert world.instance("a").evidence.probe is Verdict.UP
    world.run(put("e", status=CRITICAL, name="disk"))
    assert world.instance("a").reason == "disk"
    assert worst([]) is None


def test_a_check_of_the_node_speaks_for_everything_on_it():
    world = web()
    world.register("b", node="n")
    world.register("elsewhere", node="m")
    world.run(put("alive", key=None, instance="", status=CRITICAL, output="no answer"))
    assert world.callable_ids() == ["elsewhere"]
    world.register("late", node="n")
    assert world.instance("late").verdict is Verdict.DOWN
    world.register("late", node="m")
    assert world.instance("late").verdict is Verdict.UP
    world.run(say(PASSING, id_="alive"))
    assert len(world.callable_ids()) == 4


def test_a_registration_brings_its_checks_in_one_commit():
    world = World()
    check = commands.PutCheck(node="n", id="service:a", definition=TTL)
    world.register("a", node="n", checks=(check,))
    assert world.state.position == 1
    assert world.instance("a").verdict is Verdict.DOWN
    world.run(say(PASSING, "fine", "service:a"))
    world.register("a", node="n", checks=(check,))
    assert world.state.position == 2, "the same again, so nothing to write"
    assert world.reader.check("n", "service:a").status is PASSING
    world.register("a", node="n", checks=(commands.PutCheck(node="n", id="service:a", definition=HTTP),))
    assert world.reader.check("n", "service:a").status is CRITICAL, "another definition knows nothing yet"


def test_a_new_incarnation_keeps_its_checks_and_what_they_say():
    world = web(claim="one")
    world.run(put(status=CRITICAL))
    world.register("a", node="n", claim="two")
    assert world.instance("a").verdict is Verdict.DOWN


def word(instance: str = "a", *, status: CheckStatus = CRITICAL, **fields: Any) -> commands.PutCheck:
    node, name = word_name(WEB, instance)
    return commands.PutCheck(
        **({"node": node, "id": name, "key": WEB, "instance": instance, "status": status} | fields)
    )


def test_a_providers_word_belongs_to_an_incarnation():
    world = web(claim="one")
    first = world.instance("a").incarnation
    world.run(word(output="HTTP 500", incarnation=first))
    assert (world.instance("a").verdict, world.instance("a").reason) == (Verdict.DOWN, "HTTP 500")
    world.register("a", node="n", claim="one", weight=2.0)
    assert world.instance("a").verdict is Verdict.DOWN, "the same incarnation"
    world.register("a", node="n", claim="two")
    assert world.instance("a").verdict is Verdict.UP
    with pytest.raises(Fenced):
        world.run(word(incarnation=first))
    world.register("a", node="n", claim="three", checks=(word(output="not yet"),))
    assert world.instance("a").reason == "not yet"
    assert world.reader.checks()[0].node == ""
    with pytest.raises(InvalidField):
        world.run(word(id="another"))
    assert ("check", *word_name(WEB, "a")) in footprint(
        commands.Register(key=WEB, id="a", address="127.0.0.1"), world.state
    )


def test_an_instance_takes_its_checks_with_it():
    world = web()
    world.run(put())
    world.run(put("alive", key=None, instance="", status=PASSING))
    world.run(commands.Deregister(key=WEB, id="a"))
    assert [check.id for check in world.reader.checks()] == ["alive"]
    assert world.changes[-1].checks == {("n", "c")}


def test_a_node_takes_everything_with_it():
    world = web()
    world.run(commands.PutNode(name="n", address="127.0.0.1"))
    world.run(put())
    world.run(commands.OpenSession(id="s", node="n"))
    world.register("b", node="m")
    world.run(commands.DeleteNode(name="n"))
    assert not world.reader.nodes()
    assert not world.reader.checks()
    assert not world.state.sessions
    assert len(world.state.leases) == 1
    assert [instance.id for instance in world.reader.instances(WEB)] == ["b"]
    with pytest.raises(NotFound):
        world.run(commands.DeleteNode(name="n"))


def test_nodes_are_put_once_and_found():
    world = World()
    node = commands.PutNode(name="n", id="u", address="127.0.0.1", meta={"rack": "7"})
    world.run(node)
    world.run(node)
    assert world.state.position == 1
    world.run(commands.PutNode(name="n", address="127.0.0.2"))
    assert world.reader.node("n").id == "u", "an id is kept until there is another"
    assert (world.reader.node("n").created, world.reader.node("n").revision) == (1, 2)
    with pytest.raises(NotFound):
        world.reader.node("m")


def test_what_says_the_same_again_is_not_written_down():
    world = web()
    world.run(put(status=PASSING, output="fine"))
    position = world.state.position
    world.run(say(PASSING, "fine"))
    world.run(put(status=PASSING, output="fine"))
    assert world.state.position == position
    since = world.reader.check("n", "c").since
    world.wait(1_000)
    world.run(say(PASSING, "finer"))
    assert world.reader.check("n", "c").since == since
    assert world.reader.check("n", "c").revision == world.state.position


def test_revisions_move_with_what_they_are_about():
    world = web()
    reader = world.reader
    before = reader.node_revision("n"), reader.checks_revision(), reader.nodes_revision()
    assert before == (1, 0, 0)
    world.run(commands.PutNode(name="n"))
    world.run(put(status=PASSING))
    assert (reader.node_revision("n"), reader.checks_revision(), reader.nodes_revision()) == (3, 3, 2)
    assert reader.service_revision(WEB) == 3
    world.register("b", node="m")
    assert reader.node_revision("n") == 3
    world.run(commands.Deregister(key=WEB, id="b"))
    assert reader.node_revision("m") == 5, "also after it went"
    assert reader.node_revision("never") == 0


def test_watchers_are_woken():
    world = web()
    index: InterestIndex[str] = InterestIndex()
    for name in (("node", "n"), ("node", "m"), ("nodes", ""), ("checks", ""), WEB):
        index.add([name], str(name))
    world.run(put())
    assert set(index.match(world.changes[-1])) == {str(("node", "n")), str(("checks", "")), str(WEB)}
    world.run(commands.PutNode(name="m"))
    assert set(index.match(world.changes[-1])) == {str(("node", "m")), str(("nodes", ""))}


def test_queries_find_checks_by_what_they_are_about():
    world = web()
    world.run(put("b-check", status=PASSING))
    world.run(put("alive", key=None, instance=""))
    reader = world.reader
    assert [check.id for check in reader.checks_of_node("n")] == ["alive", "b-check"]
    assert [check.id for check in reader.checks_about_node("n")] == ["alive"]
    assert [check.id for check in reader.checks_of_instance(WEB, "a")] == ["b-check"]
    assert [check.id for check in reader.checks_of_service(WEB)] == ["b-check"]
    assert [check.id for check in reader.checks(CRITICAL)] == ["alive"]
    assert [instance.id for instance in reader.node_instances("n")] == ["a"]


def test_rights_hide_what_is_not_for_all():
    world = web()
    world.run(put())
    world.run(put("alive", key=None, instance=""))
    world.run(commands.PutNode(name="n"))
    world.run(commands.BootstrapAccess())
    actor = Actor(token_id="t", rules=(Rule(Resource.SERVICE, Level.WRITE),), restricted=True)
    reader = type(world.reader)(world.state, actor)
    assert [check.id for check in reader.checks()] == ["c"]
    assert not reader.nodes()
    with pytest.raises(Denied):
        reader.node("n")
    with pytest.raises(Denied):
        reader.check("n", "alive")
    with pytest.raises(Denied):
        world.run(commands.PutCheck(node="n", id="alive", key=WEB, instance="a"), actor)
    world.run(say(PASSING), actor)


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (put("", key=None, instance=""), "check"),
        (commands.PutCheck(node="", id="c"), "node"),
        (put(definition=CheckDefinition(kind=CheckKind.TTL)), "ttl"),
        (put(definition=CheckDefinition(kind=CheckKind.HTTP)), "interval"),
        (put(definition=CheckDefinition(timeout_ms=-1)), "timeout_ms"),
        (put(definition=CheckDefinition(failures_before_critical=limits.CHECK_THRESHOLD_MAX + 1)), "failures_before_critical"),
        (put(definition=CheckDefinition(target="x" * (limits.CHECK_TARGET_SIZE_MAX + 1))), "target"),
        (put(definition=CheckDefinition(body="x" * (limits.CHECK_BODY_SIZE_MAX + 1))), "body"),
        (put(key=None), "instance"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused(command: commands.PutCheck, field: str):
    with pytest.raises(InvalidField) as refused:
        web().run(command)
    assert refused.value.fields["field"] == field


def test_checks_of_nothing_are_refused():
    world = web()
    for command in (
        put(instance="b"),
        say(PASSING),
        commands.DeleteCheck(node="n", id="c"),
    ):
        with pytest.raises(NotFound):
            world.run(command)


def test_an_instance_has_so_many_checks_and_no_more(monkeypatch):
    world = web()
    for n in range(limits.CHECKS_PER_INSTANCE_MAX):
        world.run(put(f"c{n}"))
    with pytest.raises(OverLimit):
        world.run(put("one more"))
    world.run(put("c0", status=PASSING))
    monkeypatch.setattr(limits, "CHECKS_COUNT_MAX", 3)
    with pytest.raises(OverLimit):
        world.run(put("other", key=None, instance=""))
    monkeypatch.setattr(limits, "NODES_COUNT_MAX", 0)
    with pytest.raises(OverLimit):
        world.run(commands.PutNode(name="new"))


def test_an_output_is_cut_between_characters():
    assert cut_output("ü" * limits.CHECK_OUTPUT_SIZE_MAX) == "ü" * (limits.CHECK_OUTPUT_SIZE_MAX // 2)
    assert cut_output("short") == "short"


def test_checks_share_a_commit_but_not_with_the_end_of_their_instance():
    world = web()
    world.run(put("c"))
    claims = Claims()
    assert Shared((WEB, "a")) in footprint(say(PASSING), world.state)
    assert claims.admit(footprint(say(PASSING), world.state))
    assert claims.admit(footprint(put("d"), world.state))
    assert not claims.admit(footprint(put("d"), world.state))
    assert not claims.admit(footprint(commands.Deregister(key=WEB, id="a"), world.state))
    register = commands.Register(key=WEB, id="b", address="127.0.0.1", checks=(put("c"),))
    assert not claims.admit(footprint(register, world.state))
    assert claims.admit(footprint(commands.PutNode(name="n"), world.state))


def test_facts_about_what_is_gone_change_nothing():
    world = web()
    world.run(put())
    decisions = [world.decide(say(PASSING)), world.decide(put("d"))]
    world.run(commands.Deregister(key=WEB, id="a"))
    for decision in decisions:
        world.commit(decision.facts)  # type: ignore[union-attr]
        world.state.check()
    assert not world.reader.checks()


def test_a_failing_probe_settles_a_hold_and_a_passing_one_puts_off_the_end():
    world = World()
    for id_ in "abcd":
        world.register(id_, node="n", checks=(commands.PutCheck(node="n", id=id_, status=PASSING, definition=HTTP),))
    world.lapse(*"abcd")
    held = [id_ for id_ in "abcd" if world.instance(id_).evidence.held]
    assert held
    world.run(say(CRITICAL, "refused", held[0]))
    assert not world.instance(held[0]).callable
    world.wait(60_000)
    world.sweep()
    left = {instance.id for instance in world.reader.instances(WEB)}
    assert held[0] not in left, "it is silent and does not answer"
    assert left == set("abcd") - {held[0]}, "the others are silent too, but the registry reaches them"
    world.wait(world.rules.floor_hold_max_ms)
    world.sweep()
    world.sweep()
    assert not world.reader.instances(WEB)


def test_extra_is_part_of_the_definition():
    world = World()
    world.register("a", extra={"consul.kind": "x"})
    world.register("a", extra={"consul.kind": "x"})
    assert world.state.position == 1
    world.register("a", extra={"consul.kind": "y"})
    assert world.instance("a").extra == {"consul.kind": "y"}
    again = load_state(list(dump_state(world.state)))
    assert again.services[WEB].instances["a"].extra == {"consul.kind": "y"}


def test_overdue_checks_are_those_that_may_take_their_instance_out():
    world = web()
    world.run(put(definition=CheckDefinition(deregister_after_ms=60_000)))
    assert world.state.book.overdue == {("n", "c"): None}
    world.run(say(PASSING))
    assert not world.state.book.overdue
    world.run(say(CRITICAL))
    assert world.state.book.overdue


def test_forgotten_nodes_answer_with_a_later_position(monkeypatch):
    monkeypatch.setattr(limits, "REMOVED_SERVICES_REMEMBERED_MAX", 2)
    world = World()
    for n in range(6):
        world.run(commands.PutNode(name=f"n{n}"))
        world.run(commands.DeleteNode(name=f"n{n}"))
    assert len(world.state.book.node_revisions) <= 3
    assert world.reader.node_revision("n0") >= 2


def test_the_journal_and_a_snapshot_tell_the_same():
    world = web()
    world.run(commands.PutNode(name="n", address="127.0.0.1"))
    world.run(put(definition=HTTP, status=PASSING))
    world.run(say(CRITICAL, "refused"))
    for again in (replay(world.journal), load_state(list(dump_state(world.state)))):
        again.check()
        assert again.checks == world.state.checks
        assert again.nodes == world.state.nodes
        assert again.services[WEB].instances == world.state.services[WEB].instances
        assert again.book.node_revisions == world.state.book.node_revisions
    assert isinstance(world.reader.check("n", "c"), Check)


def test_every_fact_and_question_has_its_function():
    assert set(evolve_checks.__all__) == {"check_changed", "check_deleted", "check_put", "node_deleted", "node_put"}
    assert query_checks.nodes(World().reader) == []
