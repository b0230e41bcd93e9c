"""What facts about nodes and checks do to the state, and to the evidence of the instances concerned."""

from __future__ import annotations

from msgspec.structs import replace

from townhall.core import Changes, facts
from townhall.core.evolve_catalogue import note_node, remove, touch
from townhall.core.evolve_keys import check_failed, session_closed
from townhall.core.state import State
from townhall.model.check import NO_DEFINITION, Check, CheckStatus

__all__ = ["check_changed", "check_deleted", "check_put", "node_deleted", "node_put"]

_SHARED_OUTPUT_SIZE_MAX = 64
"""Short outputs are alike ("HTTP GET: 200 OK"); long ones are not worth looking up."""


def node_put(state: State, fact: facts.NodePut, changes: Changes) -> None:
    """A node is known, or known better."""
    book = state.book
    before = book.nodes.get(fact.node.name)
    name = before.name if before is not None else state.interner.text(fact.node.name)
    created = state.position if before is None else before.created
    pairs = state.interner.pairs
    book.nodes[name] = replace(
        fact.node,
        name=name,
        tagged_addresses=pairs(fact.node.tagged_addresses),
        meta=pairs(fact.node.meta),
        created=created,
        revision=state.position,
    )
    book.nodes_revision = state.position
    changes.node_list = True
    note_node(state, name, changes)
    # Answers about a service show the address of its node.
    for key, id_ in sorted(book.instances.get(name, ())):
        touch(state, key, id_, changes)


def node_deleted(state: State, fact: facts.NodeDeleted, changes: Changes) -> None:
    """Everything on the node goes, deliberately: instances, checks, sessions."""
    book = state.book
    if book.nodes.pop(fact.name, None) is not None:
        book.nodes_revision = state.position
        changes.node_list = True
    for key, id_ in sorted(book.instances.get(fact.name, ())):
        service = state.service_to_change(key)
        instance = service.instances.get(id_) if service is not None else None
        if service is not None and instance is not None:
            remove(state, service, instance, changes, silent=False)
    for _, id_ in list(book.by_node.get(fact.name, ())):
        check_deleted(state, facts.CheckDeleted(fact.name, id_), changes)
    for session_id in sorted(session.id for session in state.sessions.values() if session.node == fact.name):
        session_closed(state, facts.SessionClosed(session_id), changes)
    note_node(state, fact.name, changes)


def check_put(state: State, fact: facts.CheckPut, changes: Changes) -> None:
    """A check stands. One of an instance that went meanwhile is nobody's."""
    book, wanted = state.book, fact.check
    key, id_ = wanted.key, wanted.instance
    if wanted.key is not None:
        service = state.services.get(wanted.key)
        instance = service.instances.get(wanted.instance) if service is not None else None
        if service is None or instance is None:
            return
        key, id_ = service.key, instance.id
    before = book.checks.get((wanted.node, wanted.id))
    text, position = state.interner.text, state.position
    since = before.since if before is not None and before.status is wanted.status else state.time_ms
    check = replace(
        wanted,
        node=text(wanted.node),
        name=text(wanted.name),
        notes=text(wanted.notes),
        output=text(wanted.output) if len(wanted.output) <= _SHARED_OUTPUT_SIZE_MAX else wanted.output,
        definition=NO_DEFINITION if wanted.definition == NO_DEFINITION else wanted.definition,
        key=key,
        instance=id_,
        created=before.created if before is not None else position,
        revision=position,
        since=since,
    )
    book.put(check)
    if before is not None and (before.key, before.instance) != (check.key, check.instance):
        _concerns(state, before, changes)
    _concerns(state, check, changes)
    if check.status is CheckStatus.CRITICAL:
        check_failed(state, (check.node, check.id), changes)


def check_deleted(state: State, fact: facts.CheckDeleted, changes: Changes) -> None:
    """A check is forgotten, and what it said with it."""
    check = state.book.drop((fact.node, fact.id))
    if check is not None:
        _concerns(state, check, changes)
        check_failed(state, (check.node, check.id), changes)


def check_changed(state: State, fact: facts.CheckChanged, changes: Changes) -> None:
    """A check says something else."""
    before = state.book.checks.get((fact.node, fact.id))
    if before is None:
        return
    since = before.since if before.status is fact.status else state.time_ms
    after = replace(before, status=fact.status, output=fact.output, since=since, revision=state.position)
    state.book.update(after)
    _concerns(state, after, changes)
    if after.status is CheckStatus.CRITICAL:
        check_failed(state, (after.node, after.id), changes)


def _concerns(state: State, check: Check, changes: Changes) -> None:
    """Judge the instances anew that a check bears on. Each counts as changed: answers about it show its checks."""
    book = state.book
    book.checks_revision = state.position
    changes.checks.add((check.node, check.id))
    note_node(state, check.node, changes)
    if check.key is not None:
        touch(state, check.key, check.instance, changes)
        return
    for key, id_ in sorted(book.instances.get(check.node, ())):
        touch(state, key, id_, changes)
