"""Decisions about nodes and checks, and what each depends on and touches.

Claims: ``("node", name)`` what is known of a node, ``("check", node, id)`` a check. A check relies (``Shared``) on the
instance it is about. To delete a node ends what it cannot name beforehand, so it is decided alone.
"""

from __future__ import annotations

from collections.abc import Hashable

from townhall.core import Context, Decision, Fact, Footprint, Shared, commands, facts
from townhall.core.decide_keys import claim_bound, claim_session
from townhall.core.state import State
from townhall.model import limits
from townhall.model.check import Check, CheckDefinition, CheckKind, CheckStatus, Node, word_name
from townhall.model.errors import Fenced, InvalidField, NotFound, OverLimit
from townhall.model.lease import EndReason

__all__ = [
    "check_facts", "check_footprint", "cut_output", "delete_check", "delete_node", "node_end_claims", "node_footprint", "put_check",
    "put_check_footprint",
    "put_node", "set_check", "unstamped",
]  # fmt: skip

NOTHING = Decision(())
_TIMED = frozenset({CheckKind.HTTP, CheckKind.TCP, CheckKind.UDP, CheckKind.GRPC, CheckKind.SCRIPT, CheckKind.DOCKER})
"""Kinds that are run at an interval."""


def put_node(state: State, command: commands.PutNode, context: Context) -> Decision:
    """Make a node known, or replace what is known of it. Result: nothing."""
    nodes = state.book.nodes
    before = nodes.get(command.name)
    if before is None and len(nodes) >= limits.NODES_COUNT_MAX:
        raise OverLimit(f"the registry holds {len(nodes)} nodes already", limit=limits.NODES_COUNT_MAX)
    _guard_name("node", command.name)
    for field in ("meta", "tagged_addresses"):
        count = len(getattr(command, field))
        if count > limits.METADATA_COUNT_MAX:
            raise InvalidField(field, f"{count} entries, at most {limits.METADATA_COUNT_MAX}")
    node = Node(
        name=command.name,
        id=command.id or (before.id if before is not None else ""),
        address=command.address,
        tagged_addresses=command.tagged_addresses,
        meta=command.meta,
    )
    if before is not None and node == _unnumbered(before):
        return NOTHING
    return Decision((facts.NodePut(node),))


def _unnumbered(node: Node) -> Node:
    return Node(
        name=node.name, id=node.id, address=node.address, tagged_addresses=node.tagged_addresses, meta=node.meta
    )


def _guard_name(field: str, name: str) -> None:
    if not name or len(name) > limits.INSTANCE_ID_SIZE_MAX:
        raise InvalidField(field, f"must have 1 to {limits.INSTANCE_ID_SIZE_MAX} characters")


def delete_node(state: State, command: commands.DeleteNode, context: Context) -> Decision:
    """Forget a node with all that is on it; leases that were granted for one of its instances alone go too."""
    book = state.book
    if not book.present(command.name):
        raise NotFound(f"no node {command.name!r}", node=command.name)
    decided: list[Fact] = [facts.NodeDeleted(command.name)]
    for key, id_ in sorted(book.instances.get(command.name, ())):
        lease = state.leases.get(state.services[key].instances[id_].lease)
        if lease is not None and lease.own and lease.attachment_count <= 1:
            decided.append(facts.LeaseEnded(lease.id, EndReason.REVOKED))
    for session in state.sessions.values():
        lease = state.leases.get(session.lease)
        if session.node == command.name and lease is not None and lease.attachment_count <= 1:
            decided.append(facts.LeaseEnded(lease.id, EndReason.REVOKED))
    return Decision(tuple(decided))


def put_check(state: State, command: commands.PutCheck, context: Context) -> Decision:
    """Make or replace a check. Result: nothing."""
    if command.key is not None:
        service = state.services.get(command.key)
        if service is None or command.instance not in service.instances:
            raise NotFound(
                f"no instance {command.instance!r} of service {command.key}",
                service=str(command.key),
                id=command.instance,
            )
        incarnation = service.instances[command.instance].incarnation
        if command.incarnation and command.incarnation != incarnation:
            raise Fenced(
                f"instance {command.instance!r} is in incarnation {incarnation}, not {command.incarnation}",
                advice="it was registered again by somebody else; leave it alone",
                incarnation=incarnation,
            )
    elif command.instance:
        raise InvalidField("instance", "needs its service")
    return Decision(check_facts(state, (command,)))


def check_facts(state: State, wanted: tuple[commands.PutCheck, ...]) -> tuple[Fact, ...]:
    """The facts that make these checks stand; none for what stands exactly so. Raises on what is out of bounds."""
    book = state.book
    if len(book.checks) + len(wanted) > limits.CHECKS_COUNT_MAX:
        raise OverLimit(f"the registry holds {len(book.checks)} checks already", limit=limits.CHECKS_COUNT_MAX)
    decided: list[Fact] = []
    for put in wanted:
        guard_check(put)
        before = book.checks.get((put.node, put.id))
        check = _check(put, before)
        siblings = book.by_instance.get((put.key, put.instance), ()) if put.key is not None else ()
        if before is None and len(siblings) >= limits.CHECKS_PER_INSTANCE_MAX:
            raise OverLimit(f"{put.instance!r} has {len(siblings)} checks", limit=limits.CHECKS_PER_INSTANCE_MAX)
        if before is None or check != unstamped(before):
            decided.append(facts.CheckPut(check))
    return tuple(decided)


def _check(put: commands.PutCheck, before: Check | None) -> Check:
    status, output = put.status, cut_output(put.output)
    if status is None:
        status = CheckStatus.CRITICAL
        if before is not None and before.definition == put.definition:
            status, output = before.status, before.output
    return Check(
        node=put.node,
        id=put.id,
        name=put.name or put.id,
        status=status,
        output=output,
        notes=put.notes,
        key=put.key,
        instance=put.instance,
        definition=put.definition,
    )


def unstamped(check: Check) -> Check:
    """The check without what ``evolve`` gives it."""
    return Check(
        node=check.node,
        id=check.id,
        name=check.name,
        status=check.status,
        output=check.output,
        notes=check.notes,
        key=check.key,
        instance=check.instance,
        definition=check.definition,
    )


def guard_check(put: commands.PutCheck) -> None:
    """Raise InvalidField for a check that cannot be run, or is larger than anybody needs."""
    if put.node or put.key is None:
        _guard_name("node", put.node)
        _guard_name("check", put.id)
    elif (put.node, put.id) != word_name(put.key, put.instance):
        raise InvalidField("check", "without a node there is one check for each instance, named after it")
    for field, value in (("name", put.name), ("notes", put.notes)):
        if len(value) > limits.CHECK_OUTPUT_SIZE_MAX:
            raise InvalidField(field, f"longer than {limits.CHECK_OUTPUT_SIZE_MAX} characters")
    _guard_definition(put.definition)


def _guard_definition(definition: CheckDefinition) -> None:
    if definition.kind is CheckKind.TTL and definition.ttl_ms <= 0:
        raise InvalidField("ttl", "must be > 0 for TTL checks")
    if definition.kind in _TIMED and definition.interval_ms <= 0:
        raise InvalidField("interval", "must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks")
    for field in ("interval_ms", "timeout_ms", "ttl_ms", "deregister_after_ms"):
        if not 0 <= getattr(definition, field) <= limits.LEASE_TTL_MAX_MS:
            raise InvalidField(field, "is out of bounds")
    for field in ("success_before_passing", "failures_before_warning", "failures_before_critical"):
        if not 0 <= getattr(definition, field) <= limits.CHECK_THRESHOLD_MAX:
            raise InvalidField(field, f"is not between 0 and {limits.CHECK_THRESHOLD_MAX}")
    if len(definition.target) > limits.CHECK_TARGET_SIZE_MAX:
        raise InvalidField("target", f"longer than {limits.CHECK_TARGET_SIZE_MAX} characters")
    if len(definition.body) > limits.CHECK_BODY_SIZE_MAX:
        raise InvalidField("body", f"longer than {limits.CHECK_BODY_SIZE_MAX} characters")
    if len(definition.headers) > limits.HEADER_COUNT_MAX or len(definition.arguments) > limits.HEADER_COUNT_MAX:
        raise InvalidField("headers", f"more than {limits.HEADER_COUNT_MAX}")


def cut_output(text: str) -> str:
    """At most ``CHECK_OUTPUT_SIZE_MAX`` bytes of UTF-8, whole characters."""
    size_max = limits.CHECK_OUTPUT_SIZE_MAX
    if len(text) * 4 <= size_max:
        return text
    blob = text.encode("utf-8", "replace")
    return text if len(blob) <= size_max else blob[:size_max].decode("utf-8", "ignore")


def _known(state: State, command: commands.SetCheck | commands.DeleteCheck) -> Check:
    check = state.book.checks.get((command.node, command.id))
    if check is None:
        raise NotFound(f"no check {command.id!r} on node {command.node!r}", node=command.node, check=command.id)
    return check


def delete_check(state: State, command: commands.DeleteCheck, context: Context) -> Decision:
    """Forget a check."""
    _known(state, command)
    return Decision((facts.CheckDeleted(command.node, command.id),))


def set_check(state: State, command: commands.SetCheck, context: Context) -> Decision:
    """What a check says now; the same again changes nothing."""
    check = _known(state, command)
    output = cut_output(command.output)
    if (check.status, check.output) == (command.status, output):
        return NOTHING
    return Decision((facts.CheckChanged(command.node, command.id, command.status, output),))


# --- footprints ------------------------------------------------------------------------------------------------------


def node_footprint(state: State, command: commands.PutNode) -> Footprint:
    """What is known of one node."""
    return frozenset({("node", command.name)})


def put_check_footprint(state: State, command: commands.PutCheck) -> Footprint:
    """The check, and the instance that must live."""
    claims: set[Hashable] = {("check", command.node, command.id)}
    if command.key is not None:
        claims.add(Shared((command.key, command.instance)))
    if state.bound:
        claim_bound(state, ((command.node, command.id),), claims)
    return frozenset(claims)


def check_footprint(state: State, command: commands.SetCheck | commands.DeleteCheck) -> Footprint:
    """The check, and the instance it goes with."""
    check = state.book.checks.get((command.node, command.id))
    claims: set[Hashable] = {("check", command.node, command.id)}
    if check is not None and check.key is not None:
        claims.add(Shared((check.key, check.instance)))
    if state.bound:
        claim_bound(state, ((command.node, command.id),), claims)
    return frozenset(claims)


def node_end_claims(state: State, name: str) -> Footprint:
    """What a node's end takes along as things are now: for ``Together`` alone, see ``footprint``."""
    book = state.book
    checks = tuple(book.by_node.get(name, ()))
    instances = tuple(book.instances.get(name, ()))
    claims: set[Hashable] = {("node", name), *instances, *(("check", *check) for check in checks)}
    claims.update(("lease", state.services[key].instances[id_].lease) for key, id_ in instances)
    claim_bound(state, checks, claims)
    for session in state.sessions.values():
        if session.node == name:
            claim_session(state, session.id, claims)
            claims.add(("lease", session.lease))
    claims.discard(("lease", 0))
    return frozenset(claims)
