"""What consumers and providers count, as numbers for whoever collects them: Prometheus as text, or ``townhall.otel``.

Labels are few: the services of a program (beyond ``CLIENT_METRICS_SERVICES_MAX`` they are added up as ``other``), four kinds
of failure, two states. Instances are no labels; they come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from townhall.client.tally import FAILURE_KINDS
from townhall.model import limits

if TYPE_CHECKING:
    from townhall.client.alarms import Counters
    from townhall.client.handle import ServiceHandle
    from townhall.client.records import Registered

__all__ = ["Family", "Sample", "consumer_metrics", "prometheus", "provider_metrics"]

_OTHER = "other"


class Sample(NamedTuple):
    """One number."""

    labels: Mapping[str, str]
    value: float


class Family(NamedTuple):
    """The numbers of one name. A counter only ever grows."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: tuple[Sample, ...]


_Count = Callable[["ServiceHandle"], float]
_PER_SERVICE: tuple[tuple[str, Literal["counter", "gauge"], str, _Count], ...] = (
    (
        "attempts_total",
        "counter",
        "Attempts of calls, first ones, retries and hedges",
        lambda h: h.chooser.tally.attempts,
    ),
    ("attempts_running", "gauge", "Attempts that are not over, open streams too", lambda h: h.chooser.tally.running),
    ("attempt_seconds_total", "counter", "Until answers began or attempts failed", lambda h: h.chooser.tally.seconds),
    ("retries_total", "counter", "Attempts after a failed one", lambda h: h.chooser.tally.retries),
    ("retries_refused_total", "counter", "Retries and hedges without budget", lambda h: h.chooser.budget.refused),
    ("hedges_total", "counter", "Attempts beside a slow one", lambda h: h.chooser.tally.hedges),
    ("ejections_total", "counter", "Instances left out for a while", lambda h: h.chooser.tally.ejections),
    ("age_seconds", "gauge", "Since what is known was certainly true", lambda h: h.age_s),
)


def consumer_metrics(
    handles: Sequence[ServiceHandle], *, connected: bool, reports_sent: int, reports_dropped: int
) -> tuple[Family, ...]:
    """The families of a consumer."""
    families = [_family(name, kind, text, _per_service(handles, count)) for name, kind, text, count in _PER_SERVICE]
    failures = [
        Sample({**sample.labels, "kind": kind}, sample.value)
        for kind in FAILURE_KINDS
        for sample in _per_service(handles, lambda h, kind=kind: h.chooser.tally.failures[kind])  # type: ignore[misc]
    ]
    states: tuple[tuple[str, _Count], ...] = (
        ("callable", lambda h: len(h.instances(callable_only=True))),
        ("other", lambda h: len(h.instances()) - len(h.instances(callable_only=True))),
    )
    instances = [
        Sample({**sample.labels, "state": state}, sample.value)
        for state, count in states
        for sample in _per_service(handles, count)
    ]
    families += [
        _family("failures_total", "counter", "Attempts that failed by the instance's fault", failures),
        _family("instances", "gauge", "Known instances", instances),
        _family("connected", "gauge", "Whether the registry tells of changes now", [Sample({}, float(connected))]),
        _family("reports_sent_total", "counter", "Failures the registry was told of", [Sample({}, reports_sent)]),
        _family("reports_dropped_total", "counter", "Failures it was not told of", [Sample({}, reports_dropped)]),
    ]
    return tuple(families)


class Providing(Protocol):
    """What of a provider is shown."""

    @property
    def counters(self) -> Counters: ...
    @property
    def running(self) -> int: ...
    @property
    def connected(self) -> bool: ...
    @property
    def away(self) -> bool: ...
    @property
    def instances(self) -> tuple[Registered, ...]: ...


def provider_metrics(provider: Providing, service: str) -> tuple[Family, ...]:
    """The families of a provider; ``service`` is the first one of the process."""
    counters = provider.counters
    rows: tuple[tuple[str, Literal["counter", "gauge"], str, float], ...] = (
        ("renewals_total", "counter", "Heartbeats that the registry took", counters.renewals),
        ("renewals_failed_total", "counter", "Heartbeats that it did not", counters.renewals_failed),
        ("registrations_total", "counter", "Registrations made anew", counters.registrations),
        ("sessions_total", "counter", "Session streams that were opened", counters.sessions),
        ("alarms_total", "counter", "Alarms", counters.alarms),
        ("running", "gauge", "Requests and jobs that a stop would wait for", provider.running),
        ("connected", "gauge", "Whether the session stream stands", provider.connected),
        ("away", "gauge", "Whether no registry answers", provider.away),
        ("registered", "gauge", "Services that are registered", len(provider.instances)),
    )
    return tuple(
        Family(f"townhall_provider_{name}", kind, text, (Sample({"service": service}, float(value)),))
        for name, kind, text, value in rows
    )


def prometheus(*sources: Iterable[Family]) -> str:
    """The text that Prometheus reads (exposition format 0.0.4); families of the same name are put together."""
    merged: dict[str, Family] = {}
    for family in (one for source in sources for one in source):
        before = merged.get(family.name)
        merged[family.name] = family if before is None else before._replace(samples=before.samples + family.samples)
    return "".join(_text(family) for family in merged.values())


def _family(name: str, kind: Literal["counter", "gauge"], text: str, samples: Iterable[Sample]) -> Family:
    return Family(f"townhall_client_{name}", kind, text, tuple(samples))


def _per_service(handles: Sequence[ServiceHandle], count: _Count) -> list[Sample]:
    shown, rest = handles[: limits.CLIENT_METRICS_SERVICES_MAX], handles[limits.CLIENT_METRICS_SERVICES_MAX :]
    samples = [Sample({"service": str(handle.key)}, count(handle)) for handle in shown]
    if rest:
        samples.append(Sample({"service": _OTHER}, sum(count(handle) for handle in rest)))
    return samples


def _text(family: Family) -> str:
    lines = [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
    for labels, value in family.samples:
        told = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
        number = int(value) if float(value).is_integer() else value
        lines.append(f"{family.name}{{{told}}} {number}" if told else f"{family.name} {number}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
