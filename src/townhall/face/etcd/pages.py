"""What an etcd member says over plain HTTP: its version, how it is, and metrics for the usual dashboards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from townhall.core.queries import Reader
from townhall.face import Reply, Request, Route
from townhall.face.etcd.member import CLUSTER_VERSION, SERVER_VERSION, SPACE
from townhall.model.guard import Alarm

__all__ = ["Pages", "metrics"]

_TEXT: Final = b"text/plain; charset=utf-8"
_METRICS: Final = b"text/plain; version=0.0.4; charset=utf-8"
_VERSION: Final = msgspec.json.encode(
    {"etcdserver": SERVER_VERSION, "etcdcluster": CLUSTER_VERSION, "storage": CLUSTER_VERSION}
)


class Pages:
    """``/version``, ``/health``, ``/livez``, ``/readyz`` and ``/metrics``: free for everybody, as in etcd."""

    def __init__(self) -> None:
        self.routes = (
            Route("GET", "/version", self.version),
            Route("GET", "/health", self.health),
            Route("GET", "/livez", self.live),
            Route("GET", "/readyz", self.ready),
            Route("GET", "/metrics", self.metrics),
        )

    def version(self, request: Request, reader: Reader) -> Reply:
        """The version whose answers are matched."""
        return Reply(200, _VERSION)

    def health(self, request: Request, reader: Reader) -> Reply:
        """``health`` is a text, which health checks in the field compare with "true"."""
        why = _why_not(request, reader)
        body = msgspec.json.encode({"health": "false" if why else "true", "reason": why})
        return Reply(503 if why else 200, body, content_type=_TEXT)

    def live(self, request: Request, reader: Reader) -> Reply:
        """It answers, so it lives."""
        return Reply(200, b"ok\n", content_type=_TEXT)

    def ready(self, request: Request, reader: Reader) -> Reply:
        """Whether writes are accepted."""
        if request.live.status()["ready"]:
            return Reply(200, b"ok\n", content_type=_TEXT)
        return Reply(503, b"[-]serializable_read failed: the registry is not ready\n", content_type=_TEXT)

    def metrics(self, request: Request, reader: Reader) -> Reply:
        """Those of etcd's names that have a true value here."""
        return Reply(200, "".join(metrics(request, reader)).encode(), content_type=_METRICS)


def _why_not(request: Request, reader: Reader) -> str:
    """Empty for a healthy member; etcd's own words where it has any."""
    alarms = reader.guard(SPACE).alarms()
    if alarms:
        return "ALARM NOSPACE" if Alarm.NO_SPACE in alarms else "ALARM CORRUPT"
    status = request.live.status()
    return "" if status["ready"] else f"RANGE ERROR: {status['engine_error'] or 'the registry is not ready'}"


def metrics(request: Request, reader: Reader) -> Iterator[str]:
    """Lines in Prometheus' text format."""
    status = request.live.status()
    size, position = reader.space_size(SPACE), reader.position
    rows: tuple[tuple[str, str, str, object], ...] = (
        ("etcd_server_has_leader", "gauge", "Whether or not a leader exists.", int(bool(status["ready"]))),
        ("etcd_server_is_leader", "gauge", "Whether or not this member is a leader.", 1),
        ("etcd_server_leader_changes_seen_total", "counter", "The number of leader changes seen.", 0),
        ("etcd_server_proposals_committed_total", "gauge", "Commits of the journal.", position),
        ("etcd_server_proposals_applied_total", "gauge", "Commits of the journal that the state shows.", position),
        ("etcd_server_proposals_pending", "gauge", "Commands that wait for the writer.", status["pending"]),
        ("etcd_server_proposals_failed_total", "counter", "Commands refused.", status["refusals"]),
        ("etcd_server_quota_backend_bytes", "gauge", "Quota of the space in bytes.", reader.space_size_max),
        ("etcd_mvcc_db_total_size_in_bytes", "gauge", "Size of the space in memory.", size),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", "Size of the space in memory.", size),
        ("etcd_debugging_mvcc_current_revision", "gauge", "The current revision.", reader.space_revision(SPACE)),
        ("etcd_debugging_mvcc_compact_revision", "gauge", "The oldest revision.", reader.space_compacted(SPACE)),
        ("etcd_debugging_lease_total", "gauge", "Leases of the whole registry.", status["leases"]),
    )
    yield "# HELP etcd_server_version Which version is running. 1 for 'server_version' label with current version.\n"
    yield f'# TYPE etcd_server_version gauge\netcd_server_version{{server_version="{SERVER_VERSION}"}} 1\n'
    for name, kind, about, value in rows:
        yield f"# HELP {name} {about}\n# TYPE {name} {kind}\n{name} {value}\n"
