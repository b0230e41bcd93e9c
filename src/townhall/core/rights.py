"""Which rights each command needs. Checked by ``decide`` before anything else, when access control is on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from townhall.core import commands
from townhall.core.access import allowed, allowed_range, key_name, refuse, service_name, space_end
from townhall.core.guard import is_guarded, setting_name
from townhall.core.state import Lease, State
from townhall.core.transaction_rules import spans
from townhall.model.access import Actor, Level, Resource

__all__ = ["RIGHTS", "check", "check_guarded"]


class Need(NamedTuple):
    """One right. ``end`` set: on every name of ``[name, end)``. ``resource`` None: any token will do."""

    resource: Resource | None
    level: Level
    name: str
    end: str = ""


def check(state: State, command: commands.Command, actor: Actor) -> None:
    """Raise Unauthenticated or Denied unless the actor has every right that the command needs."""
    if actor.internal or actor.management:
        return
    for need in RIGHTS[type(command)](state, command):
        if need.resource is None:
            if not actor.token_id:
                refuse(actor, Resource.SESSION, need.level, need.name)
        else:
            _require(actor, need)


def check_guarded(state: State, command: commands.Command, actor: Actor) -> None:
    """The same while access control is off: what concerns a space whose guard is on needs its right all the same."""
    if actor.internal or actor.management:
        return
    for need in RIGHTS[type(command)](state, command):
        if need.resource is not None and is_guarded(state, need.resource, need.name):
            _require(actor, need)


def _require(actor: Actor, need: Need) -> None:
    resource, level, name, end = need
    assert resource is not None
    if not (allowed_range(actor, resource, level, name, end) if end else allowed(actor, resource, level, name)):
        refuse(actor, resource, level, name)


def _register(state: State, command: commands.Register) -> Iterator[Need]:
    """A registration may bring checks, which are its own, and may take away those of another under their names."""
    yield Need(Resource.SERVICE, Level.WRITE, service_name(command.key))
    for put in command.checks:
        yield from _standing_check(state, put)


def _node(state: State, command: commands.PutNode | commands.DeleteNode) -> Iterator[Need]:
    yield Need(Resource.NODE, Level.WRITE, command.name)


def _put_check(state: State, command: commands.PutCheck) -> Iterator[Need]:
    if command.key is None:
        yield Need(Resource.NODE, Level.WRITE, command.node)
    else:
        yield Need(Resource.SERVICE, Level.WRITE, service_name(command.key))
    yield from _standing_check(state, command)


def _standing_check(state: State, command: Any) -> Iterator[Need]:
    """What the check is about that has this name now. An unknown one is a matter of its node."""
    check = state.book.checks.get((command.node, command.id))
    if check is not None and check.key is not None:
        yield Need(Resource.SERVICE, Level.WRITE, service_name(check.key))
    elif check is not None:
        yield Need(Resource.NODE, Level.WRITE, command.node)


def _check(state: State, command: Any) -> Iterator[Need]:
    if (command.node, command.id) not in state.book.checks:
        yield Need(Resource.NODE, Level.WRITE, command.node)
    yield from _standing_check(state, command)


def _service(state: State, command: Any) -> Iterator[Need]:
    yield Need(Resource.SERVICE, Level.WRITE, service_name(command.key))


def _operator(state: State, command: Any) -> Iterator[Need]:
    yield Need(Resource.OPERATOR, Level.WRITE, "")


def _setting(state: State, command: commands.CompactSpace | commands.ChangeGuard) -> Iterator[Need]:
    yield Need(Resource.OPERATOR, Level.WRITE, setting_name(command.space))


def _agent(state: State, command: Any) -> Iterator[Need]:
    yield Need(Resource.AGENT, Level.WRITE, "")


def _nobody(state: State, command: Any) -> Iterator[Need]:
    return iter(())


def _any_token(state: State, command: Any) -> Iterator[Need]:
    yield Need(None, Level.WRITE, "lease")


def _on_lease(state: State, lease: Lease | None) -> Iterator[Need]:
    """Who touches a lease touches everything on it."""
    yield Need(None, Level.WRITE, "lease")
    if lease is None:
        return
    for key, _ in lease.attached():
        yield Need(Resource.SERVICE, Level.WRITE, service_name(key))
    for space, name in lease.keys or ():
        yield Need(Resource.KEY, Level.WRITE, key_name(space, name))
    for session_id in lease.sessions or ():
        session = state.sessions.get(session_id)
        if session is not None:
            yield Need(Resource.SESSION, Level.WRITE, session.node)


def _one_lease(state: State, command: Any) -> Iterator[Need]:
    return _on_lease(state, state.leases.get(command.id))


def _connection(state: State, command: commands.SetConnection) -> Iterator[Need]:
    for lease_id in command.leases:
        yield from _on_lease(state, state.leases.get(lease_id))


def _open_session(state: State, command: commands.OpenSession) -> Iterator[Need]:
    yield Need(Resource.SESSION, Level.WRITE, command.node)


def _close_session(state: State, command: commands.CloseSession) -> Iterator[Need]:
    session = state.sessions.get(command.id)
    yield Need(Resource.SESSION, Level.WRITE, session.node if session is not None else "")


def _transact(state: State, command: commands.Transact) -> Iterator[Need]:
    for start, end, write in spans(command.transaction):
        level = Level.WRITE if write else Level.READ
        yield Need(Resource.KEY, level, key_name(command.space, start), space_end(command.space, end) if end else "")


def _together(state: State, command: commands.Together) -> Iterator[Need]:
    """What each of them needs, and to read what they expect."""
    for one in command.commands:
        yield from RIGHTS[type(one)](state, one)
    for expected in command.expected:
        key = state.book.places.get(expected.node, {}).get(expected.instance)
        check = state.book.checks.get((expected.node, expected.check))
        key = check.key if check is not None else key
        if key is not None:
            yield Need(Resource.SERVICE, Level.READ, service_name(key))
        else:
            yield Need(Resource.NODE, Level.READ, expected.node)


RIGHTS: Mapping[type, Callable[[State, Any], Iterator[Need]]] = {
    commands.Register: _register,
    commands.Deregister: _service,
    commands.PatchInstance: _service,
    commands.SetOverride: _service,
    commands.SetMaintenance: _service,
    commands.StartDrain: _service,
    commands.CancelDrain: _service,
    commands.MarkReported: _agent,
    commands.PutService: _service,
    commands.DeleteService: _service,
    commands.GrantLease: _any_token,
    commands.EndLease: _one_lease,
    commands.LapseLeases: _agent,
    commands.RecoverLease: _one_lease,
    commands.SetConnection: _connection,
    commands.Sweep: _agent,
    commands.TakeOverLeases: _agent,
    commands.OpenSession: _open_session,
    commands.CloseSession: _close_session,
    commands.Transact: _transact,
    commands.CompactSpace: _setting,
    commands.ChangeGuard: _setting,
    commands.BootstrapAccess: _nobody,
    commands.PutToken: _operator,
    commands.DeleteToken: _operator,
    commands.PutPolicy: _operator,
    commands.DeletePolicy: _operator,
    commands.PutRole: _operator,
    commands.DeleteRole: _operator,
    commands.PutNode: _node,
    commands.DeleteNode: _node,
    commands.PutCheck: _put_check,
    commands.DeleteCheck: _check,
    commands.SetCheck: _check,
    commands.PutLayouts: _operator,
    commands.Together: _together,
    commands.Restore: _operator,
}
