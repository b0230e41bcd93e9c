"""The hub's counts and gauges in one mapping; the metrics are derived from it.

=====================  =============================================================================================
``ready``              started, not stopping, and writes are accepted
``position``           of the last durable commit; ``time_ms`` its time, ``snapshot_position`` that of the snapshot
``engine``             ``ok``, ``full`` (reads go on, writes are refused) or ``failed``; ``engine_error`` says why
``instances`` ...      what the state holds: services, callable, silent, held, leases, sessions, spaces, tokens
``commands`` ...       what the writer did since the start; ``append_p50_us`` ... how long appends took
``append_buckets``     (upper bound in µs, appends up to it) for a histogram
``cursors`` ...        cursors, those in line to be woken, fresh views, wake-ups, errors in callbacks
``logins``             tokens of users that are valid; ``work_waiting``: slow computations that are not done
``ttl_checks`` ...     deadlines of TTL checks; ``checks_reaped``: instances that were critical for too long
``probes`` ...         active probes and dial-backs, while there is a prober
``leases_*``           deadlines; ``lapses_braked``: ticks at which the storm brake held; ``stalls``: own, made good
=====================  =============================================================================================
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from townhall.hub.histogram import BOUNDS_US

if TYPE_CHECKING:
    from townhall.hub.hub import Hub

__all__ = ["snapshot_of_status"]


def snapshot_of_status(hub: Hub) -> dict[str, object]:
    """All of it, now. Cheap enough for every scrape: nothing here walks the catalogue."""
    state, writer, cursors = hub.state, hub.writer, hub.cursors
    latency = writer.append_latency
    engine = "failed" if writer.failure is not None else "full" if writer.full else "ok"
    return {
        "node": hub.options.node,
        "ready": hub.ready and writer.failure is None,
        "uptime_ms": hub.clock.monotonic_ms() - hub.started_ms,
        "position": state.position,
        "time_ms": state.time_ms,
        "now_ms": hub.clock.now_ms(),
        "engine": engine,
        "engine_error": "" if writer.failure is None else str(writer.failure),
        "snapshot_position": hub.snapshots.position,
        "snapshots_saved": hub.snapshots.saved,
        "snapshot_failures": hub.snapshots.failures,
        "snapshot_busy": hub.snapshots.busy,
        "replayed_at_start": hub.recovered.replayed,
        # what the state holds
        "instances": state.instance_count,
        "services": len(state.services),
        "namespaces": len(state.namespaces),
        "ephemeral_callable": state.ephemeral.callable,
        "ephemeral_silent": state.ephemeral.silent,
        "ephemeral_held": state.ephemeral.held,
        "leases": len(state.leases),
        "leases_silent": len(state.silent),
        "sessions": len(state.sessions),
        "spaces": sorted(state.spaces),
        "tokens": len(state.tokens),
        "access_enabled": state.access_enabled,
        # the writer
        "pending": writer.pending,
        "commands": writer.commands,
        "commits": writer.commits,
        "groups": writer.groups,
        "group_max": writer.group_max,
        "refusals": writer.refusals,
        "conflicts": writer.conflicts,
        "errors": writer.callback_errors + writer.decide_errors + cursors.wake_errors + hub.tick_errors,
        "append_count": latency.count,
        "append_sum_us": latency.sum_us,
        "append_max_us": latency.max_us,
        "append_p50_us": latency.quantile_us(0.5),
        "append_p99_us": latency.quantile_us(0.99),
        "append_p999_us": latency.quantile_us(0.999),
        "append_buckets": list(zip(BOUNDS_US, accumulate(latency.counts), strict=False)),
        # cursors and other soft state
        "cursors": cursors.count,
        "cursors_waiting": cursors.waiting,
        "views": cursors.views,
        "wakes": cursors.wakes,
        "subscribers": len(hub.table),
        "logins": len(hub.logins),
        "work_waiting": hub.bench.waiting,
        "reports_tracked": len(hub.reports),
        "reports_dropped": hub.reports.dropped,
        "nodes": len(state.nodes),
        "checks": len(state.checks),
        **hub.expiry.counts(),
        **hub.check_deadlines.counts(),
        **(hub.observer.counts() if hub.observer is not None else {}),
    }
