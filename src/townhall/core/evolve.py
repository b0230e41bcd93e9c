"""``evolve``: apply a commit to the state. Total: it never refuses, whatever the facts say.

A fact about something that is not there (any more) changes nothing. The functions in the table take the state, the
fact and the changes so far; ``state.position``, ``time_ms`` and ``stamp`` are already those of the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from townhall.core import (
    Changes,
    evolve_access,
    evolve_catalogue,
    evolve_checks,
    evolve_guard,
    evolve_keys,
    evolve_leases,
    evolve_ties,
    facts,
)
from townhall.core.state import State
from townhall.model.errors import Damaged

__all__ = ["Apply", "evolve"]

Apply = Callable[[State, Any, Changes], None]

_TABLE: Mapping[type, Apply] = {
    facts.Registered: evolve_catalogue.registered,
    facts.Deregistered: evolve_catalogue.deregistered,
    facts.OverrideSet: evolve_catalogue.override_set,
    facts.MaintenanceSet: evolve_catalogue.maintenance_set,
    facts.DrainStarted: evolve_catalogue.drain_started,
    facts.DrainCancelled: evolve_catalogue.drain_cancelled,
    facts.Reported: evolve_catalogue.reported,
    facts.ServicePut: evolve_catalogue.service_put,
    facts.ServiceDeleted: evolve_catalogue.service_deleted,
    facts.LeaseGranted: evolve_leases.granted,
    facts.LeaseEnded: evolve_leases.ended,
    facts.LeaseLapsed: evolve_leases.lapsed,
    facts.LeaseRecovered: evolve_leases.recovered,
    facts.LeaseConnectionChanged: evolve_leases.connection_changed,
    facts.HoldReleased: evolve_leases.hold_released,
    facts.LeasesTakenOver: evolve_leases.taken_over,
    facts.KeysWritten: evolve_keys.keys_written,
    facts.SpaceCompacted: evolve_keys.space_compacted,
    facts.SessionOpened: evolve_keys.session_opened,
    facts.SessionClosed: evolve_keys.session_closed,
    facts.AccessEnabled: evolve_access.access_enabled,
    facts.TokenPut: evolve_access.token_put,
    facts.TokenDeleted: evolve_access.token_deleted,
    facts.PolicyPut: evolve_access.policy_put,
    facts.PolicyDeleted: evolve_access.policy_deleted,
    facts.RolePut: evolve_access.role_put,
    facts.RoleDeleted: evolve_access.role_deleted,
    facts.GuardChanged: evolve_guard.guard_changed,
    facts.LayoutsSet: evolve_ties.layouts_set,
    facts.NodePut: evolve_checks.node_put,
    facts.NodeDeleted: evolve_checks.node_deleted,
    facts.CheckPut: evolve_checks.check_put,
    facts.CheckDeleted: evolve_checks.check_deleted,
    facts.CheckChanged: evolve_checks.check_changed,
}


def evolve(state: State, commit: facts.Commit, changes: Changes | None = None) -> Changes:
    """Bring the state to ``commit.position`` and say what changed, in ``changes`` together with what is in it already.

    Raises Damaged only for a fact of a type that this version does not know, before anything was changed.
    """
    facts, position = commit.facts, commit.position
    for fact in facts:
        if type(fact) not in _TABLE:
            raise Damaged(f"unknown fact {type(fact).__name__}", position=position)
    state.begin(position, commit.time_ms, commit.node)
    if changes is None:
        changes = Changes(position)
    else:
        changes.position = position
    for fact in facts:
        _TABLE[type(fact)](state, fact, changes)
    if state.touched:
        evolve_ties.project(state, changes)
    return changes
