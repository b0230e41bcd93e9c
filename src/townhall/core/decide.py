"""``decide``: all rules, guards and limits, one function per command. Changes nothing, reads no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from townhall.core import (
    Context,
    Decision,
    commands,
    decide_access,
    decide_catalogue,
    decide_checks,
    decide_guard,
    decide_keys,
    decide_leases,
    decide_ties,
)
from townhall.core.access import enforced
from townhall.core.decide_register import register
from townhall.core.decide_restore import restore
from townhall.core.decide_together import decide_together
from townhall.core.rights import check, check_guarded
from townhall.core.state import State
from townhall.model.errors import TownhallError

__all__ = ["Decide", "decide"]

Decide = Callable[[State, Any, Context], Decision]

_TABLE: Mapping[type, Decide] = {
    commands.Register: register,
    commands.Deregister: decide_catalogue.deregister,
    commands.PatchInstance: decide_catalogue.patch_instance,
    commands.SetOverride: decide_catalogue.set_override,
    commands.SetMaintenance: decide_catalogue.set_maintenance,
    commands.StartDrain: decide_catalogue.start_drain,
    commands.CancelDrain: decide_catalogue.cancel_drain,
    commands.MarkReported: decide_catalogue.mark_reported,
    commands.PutService: decide_catalogue.put_service,
    commands.DeleteService: decide_catalogue.delete_service,
    commands.GrantLease: decide_leases.grant_lease,
    commands.EndLease: decide_leases.end_lease,
    commands.LapseLeases: decide_leases.lapse_leases,
    commands.RecoverLease: decide_leases.recover_lease,
    commands.SetConnection: decide_leases.set_connection,
    commands.Sweep: decide_leases.sweep,
    commands.TakeOverLeases: decide_leases.take_over_leases,
    commands.OpenSession: decide_keys.open_session,
    commands.CloseSession: decide_keys.close_session,
    commands.Transact: decide_keys.transact,
    commands.CompactSpace: decide_keys.compact_space,
    commands.ChangeGuard: decide_guard.change_guard,
    commands.BootstrapAccess: decide_access.bootstrap_access,
    commands.PutToken: decide_access.put_token,
    commands.DeleteToken: decide_access.delete_token,
    commands.PutPolicy: decide_access.put_policy,
    commands.DeletePolicy: decide_access.delete_policy,
    commands.PutRole: decide_access.put_role,
    commands.DeleteRole: decide_access.delete_role,
    commands.PutNode: decide_checks.put_node,
    commands.DeleteNode: decide_checks.delete_node,
    commands.PutCheck: decide_checks.put_check,
    commands.DeleteCheck: decide_checks.delete_check,
    commands.SetCheck: decide_checks.set_check,
    commands.PutLayouts: decide_ties.put_layouts,
    commands.Restore: restore,
    commands.Together: lambda state, command, context: decide_together(state, command, context, _TABLE),
}


def decide(state: State, command: commands.Command, context: Context) -> Decision | TownhallError:
    """What comes of a command: facts and an answer, or the refusal. Anything raised from here is a bug."""
    try:
        if enforced(state, context.rules):
            check(state, command, context.actor)
        elif state.guarded:
            check_guarded(state, command, context.actor)
        return _TABLE[type(command)](state, command, context)
    except TownhallError as refusal:
        # The traceback would keep the frames, and with them the state's values, alive for as long as the answer.
        return refusal.with_traceback(None)
