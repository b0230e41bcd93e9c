"""What a command depends on and touches, so that commands that have nothing to do with each other share a commit.

The hub asks before it decides. Claims of the catalogue: ``(ServiceKey, id)`` an instance, ``("lease", id)`` a lease,
``("settings", ServiceKey)`` a service's own fields. Whatever needs the counts of the removal floor, or might end what
it cannot name, is decided alone. See docs/decisions/0002 for what this promises and what it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

from townhall.core import EVERYTHING, Footprint, Shared, commands, decide_checks, decide_keys
from townhall.core.commands import Register
from townhall.core.decide_register import same_incarnation
from townhall.core.state import State
from townhall.core.tied_claims import with_ties
from townhall.model.check import word_name
from townhall.model.instance import ServiceKey

__all__ = ["footprint", "within_together"]

_NOWHERE: Mapping[str, ServiceKey] = {}


def footprint(command: commands.Command, state: State) -> Footprint:
    """The claims of a command; EVERYTHING when it must be decided alone."""
    claims = _TABLE[type(command)](state, command)
    return claims if state.ties is None else with_ties(state, state.ties, claims)


def _register(state: State, command: Register) -> Footprint:
    service = state.services.get(command.key)
    existing = service.instances.get(command.id) if service is not None else None
    if existing is None and not command.lease and not command.checks:  # nearly always
        return frozenset(((command.key, command.id),))
    claims: set[Hashable] = {(command.key, command.id)}
    checks = [(put.node, put.id) for put in command.checks]
    if existing is not None:
        checks.append(word_name(command.key, command.id))  # It goes with the incarnation that it was about.
    claims.update(("check", *name) for name in checks)
    if state.bound:
        decide_keys.claim_bound(state, checks, claims)
    if command.lease:
        claims.add(_relied_on(state, command.lease))
    if existing is not None and existing.lease:
        stays = not command.persistent and command.lease in {0, existing.lease}
        if stays and (command.lease or same_incarnation(command.claim, existing)) and not command.ttl_ms:
            claims.add(_relied_on(state, existing.lease))
        else:
            claims.add(("lease", existing.lease))  # It may get another TTL, or end.
    return frozenset(claims)


def _relied_on(state: State, lease_id: int) -> Hashable:
    """A healthy lease is only relied on; a silent one is recovered, an unknown one may be granted meanwhile."""
    lease = state.leases.get(lease_id)
    claim = ("lease", lease_id)
    return Shared(claim) if lease is not None and not lease.silent else claim


def _deregister(state: State, command: commands.Deregister) -> Footprint:
    claim = (command.key, command.id)
    service = state.services.get(command.key)
    existing = service.instances.get(command.id) if service is not None else None
    claims: set[Hashable] = {claim}
    if existing is not None and existing.lease:
        lease_claim = ("lease", existing.lease)
        # Only a lease of its own can end with it; of another one it may be the last but one that keeps it.
        claims.add(lease_claim if state.leases[existing.lease].own else Shared(lease_claim))
    if state.bound:
        decide_keys.claim_bound(state, state.book.by_instance.get(claim, ()), claims)
    return frozenset(claims)


def _instance(state: State, command: Any) -> Footprint:
    return frozenset({(command.key, command.id)})


def _drain(state: State, command: commands.StartDrain) -> Footprint:
    return frozenset({(command.key, command.id), Shared(("settings", command.key))})


def _settings(state: State, command: commands.PutService) -> Footprint:
    return frozenset({("settings", command.key)})


def _grant(state: State, command: commands.GrantLease) -> Footprint:
    return frozenset({("lease", command.id)}) if command.id else frozenset()


def _end(state: State, command: commands.EndLease) -> Footprint:
    lease = state.leases.get(command.id)
    return frozenset({("lease", command.id)}) if lease is None else decide_keys.lease_end_footprint(state, lease)


def _recover(state: State, command: commands.RecoverLease) -> Footprint:
    return frozenset({_relied_on(state, command.id)})


def _connection(state: State, command: commands.SetConnection) -> Footprint:
    if not command.up:  # Asks the floor.
        return EVERYTHING
    return frozenset({("lease", lease_id) for lease_id in command.leases})


def _together(state: State, command: commands.Together) -> Footprint:
    """All that its commands claim, and what it expects of what it only looked at."""
    claims: set[Hashable] = set()
    for one in command.commands:
        claim = footprint(one, state)
        if claim == EVERYTHING:
            return EVERYTHING
        claims |= claim
    for expected in command.expected:
        key = state.book.places.get(expected.node, _NOWHERE).get(expected.instance)
        if expected.check:
            claims.add(("check", expected.node, expected.check))
        elif key is not None:
            claims.add((key, expected.instance))
        elif not expected.instance:
            claims.add(("node", expected.node))
    return frozenset(claims)


def within_together(state: State, command: commands.Command) -> Footprint:
    """What a command claims of the others that are decided together with it. The end of a node, which otherwise is
    decided alone, takes what is on it now; a check may go from an instance that is registered anew.
    """
    if isinstance(command, commands.DeleteNode):
        claims = decide_checks.node_end_claims(state, command.name)
        return claims if state.ties is None else with_ties(state, state.ties, claims)
    claims = footprint(command, state)
    if isinstance(command, commands.DeleteCheck):
        return frozenset(claim for claim in claims if not isinstance(claim, Shared))
    return claims


def _alone(state: State, command: Any) -> Footprint:
    return EVERYTHING


_TABLE: Mapping[type, Callable[[State, Any], Footprint]] = {
    commands.Register: _register,
    commands.Deregister: _deregister,
    commands.PatchInstance: _instance,
    commands.SetOverride: _instance,
    commands.SetMaintenance: _instance,
    commands.StartDrain: _drain,
    commands.CancelDrain: _instance,
    commands.MarkReported: _alone,
    commands.PutService: _settings,
    commands.DeleteService: _alone,
    commands.GrantLease: _grant,
    commands.EndLease: _end,
    commands.LapseLeases: _alone,
    commands.RecoverLease: _recover,
    commands.SetConnection: _connection,
    commands.Sweep: _alone,
    commands.TakeOverLeases: _alone,
    commands.OpenSession: decide_keys.open_session_footprint,
    commands.CloseSession: decide_keys.close_session_footprint,
    commands.Transact: decide_keys.transact_footprint,
    commands.CompactSpace: decide_keys.compact_space_footprint,
    commands.ChangeGuard: _alone,
    commands.BootstrapAccess: _alone,
    commands.PutToken: _alone,
    commands.DeleteToken: _alone,
    commands.PutPolicy: _alone,
    commands.DeletePolicy: _alone,
    commands.PutRole: _alone,
    commands.DeleteRole: _alone,
    commands.PutNode: decide_checks.node_footprint,
    commands.DeleteNode: _alone,
    commands.PutCheck: decide_checks.put_check_footprint,
    commands.DeleteCheck: decide_checks.check_footprint,
    commands.SetCheck: decide_checks.check_footprint,
    commands.PutLayouts: _alone,
    commands.Together: _together,
    commands.Restore: _alone,
}
