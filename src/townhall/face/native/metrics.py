"""The hub's status as Prometheus' text format (exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["CONTENT_TYPE", "COUNTERS", "exposition"]

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

COUNTERS: Mapping[str, str] = {
    "append_count": "Groups appended to the journal.",
    "append_sum_us": "Microseconds that appends took in all.",
    "commands": "Commands decided.",
    "commits": "Commits made durable.",
    "conflicts": "Groups that found somebody else's entries in a shared journal and were decided again.",
    "errors": "Errors that nobody expected; each is in the log.",
    "groups": "Group commits.",
    "lapses_braked": "Ticks at which the storm brake held lapses back.",
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
    "cursors": "Parked reads and streams.",
    "ephemeral_held": "Instances that only the removal floor keeps callable.",
    "instances": "Instances in the catalogue.",
    "leases": "Leases.",
    "leases_silent": "Leases that have lapsed or lost their connection.",
    "position": "Position of the last durable commit.",
    "ready": "Whether the registry serves and accepts writes.",
    "services": "Services in the catalogue.",
    "subscribers": "Watchers of services.",
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
