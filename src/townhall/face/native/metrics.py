"""The hub's status as Prometheus' text format (exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["CONTENT_TYPE", "COUNTERS", "exposition"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

COUNTERS: Mapping[str, str] = {
    "append_count": "Groups appended to the journal.",
    "append_sum_us": "Microseconds that appends took in all.",
    "check_expiries": "TTL checks that nobody passed in time.",
    "check_heartbeats": "Heartbeats of TTL checks.",
    "checks_reaped": "Instances deregistered because a check was critical for too long.",
    "commands": "Commands decided.",
    "commits": "Commits made durable.",
    "conflicts": "Groups that found somebody else's entries in a shared journal and were decided again.",
    "dialbacks": "Registrations whose address was tried.",
    "dialbacks_skipped": "Registrations whose address was not tried because too many came at once.",
    "errors": "Errors that nobody expected; each is in the log.",
    "groups": "Group commits.",
    "lapses_braked": "Ticks at which the storm brake held lapses back.",
    "probe_errors": "Probes that broke in a way that nobody expected; each is in the log.",
    "probes": "Active probes.",
    "probes_failed": "Active probes that found their target critical.",
    "probes_late": "Active probes that began late by more than half of their interval.",
    "refusals": "Commands refused.",
    "renewals": "Lease renewals.",
    "reports_dropped": "Callers' reports dropped because too many instances were reported at once.",
    "snapshot_failures": "Snapshots that could not be saved.",
    "snapshots_saved": "Snapshots saved.",
    "stalls": "Own stalls that were made good.",
    "wakes": "Cursors woken.",
}
"""What only grows; everything else that is a number is a gauge."""

_HELP: Mapping[str, str] = {
    "checks": "Checks.",
    "dialbacks_unreachable": "Instances that could not be reached from here when they registered.",
    "cursors": "Parked reads and streams.",
    "ephemeral_held": "Instances that only the removal floor keeps callable.",
    "ephemeral_callable": "Instances with a lease that may be called.",
    "ephemeral_silent": "Instances whose lease has lapsed or lost its connection.",
    "floor_callable": "Instances under the registry's removal floor that may be called, counting held ones.",
    "floor_engaged": "Whether the registry's removal floor holds instances, or would hold the next silent one.",
    "floor_held": "Instances that the removal floor of their service or of the registry keeps callable.",
    "floor_known": "Instances that count for the registry's removal floor, silently removed ones within the window too.",
    "floor_needed": "Instances that the registry's removal floor keeps callable at least.",
    "floor_ratio": "Share of the known instances below which silent deaths are held back.",
    "floor_silent": "Silent instances and silent removals under the registry's removal floor.",
    "instances": "Instances in the catalogue.",
    "leases": "Leases.",
    "leases_due": "Leases whose lapse waits for the storm brake.",
    "leases_out": "Leases past their deadline that have not ended.",
    "leases_silent": "Leases that have lapsed or lost their connection.",
    "now_ms": "The registry's clock, Unix milliseconds.",
    "pending": "Commands that wait for a decision.",
    "position": "Position of the last durable commit.",
    "ready": "Whether the registry serves and accepts writes.",
    "replayed_at_start": "Journal entries that the start replayed.",
    "services": "Services in the catalogue.",
    "snapshot_busy": "Whether a snapshot is being written.",
    "snapshot_position": "Position of the newest snapshot.",
    "stalled_ms": "Milliseconds of own stalls that leases were given back.",
    "subscribers": "Watchers of services.",
    "time_ms": "Time of the last commit, Unix milliseconds.",
    "uptime_ms": "Milliseconds since the start.",
}


def exposition(status: Mapping[str, object], *, version: str) -> bytes:
    """All numbers of the status; texts become labels of ``townhall_info``, the histogram one of Prometheus' kind."""
    lines: list[str] = []
    info = {"version": version}
    for name, value in status.items():
        if name == "append_buckets" and isinstance(value, Sequence):
            lines += _histogram(value, status)
        elif isinstance(value, bool | int | float):
            lines += _sample(name, value)
        elif isinstance(value, str) and name in ("node", "engine"):
            info[name] = value
        elif isinstance(value, Mapping):
            for part, content in value.items():
                if isinstance(content, bool | int | float):
                    lines += _sample(f"{name}_{part}", content)
    labels = ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(info.items()))
    lines += [
        "# HELP townhall_info What this registry is.",
        "# TYPE townhall_info gauge",
        f"townhall_info{{{labels}}} 1",
    ]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _sample(name: str, value: float) -> Iterable[str]:
    if name in COUNTERS:
        metric = f"townhall_{name}_total"
        return (f"# HELP {metric} {COUNTERS[name]}", f"# TYPE {metric} counter", f"{metric} {_number(value)}")
    metric = f"townhall_{name}"
    about = _HELP.get(name, f"{name.replace('_', ' ').capitalize()}.")
    return (f"# HELP {metric} {about}", f"# TYPE {metric} gauge", f"{metric} {_number(value)}")


def _histogram(buckets: Sequence[Sequence[float]], status: Mapping[str, object]) -> Iterable[str]:
    metric = "townhall_append_duration_us"
    count = status.get("append_count", 0)
    total = status.get("append_sum_us", 0)
    yield f"# HELP {metric} How long appends to the journal took, in microseconds."
    yield f"# TYPE {metric} histogram"
    for bound, below in buckets:
        yield f'{metric}_bucket{{le="{_number(bound)}"}} {_number(below)}'
    yield f'{metric}_bucket{{le="+Inf"}} {count}'
    yield f"{metric}_sum {total}"
    yield f"{metric}_count {count}"


def _number(value: float) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return repr(value) if isinstance(value, float) else str(value)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
