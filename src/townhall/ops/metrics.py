"""Metrics that only the process knows: HTTP counters of each face, memory, processor time, files, collections.

Prometheus' text format (exposition format 0.0.4); the native face renders the hub's part before it.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from townhall.serve.counters import Counters, GrpcCounters
    from townhall.serve.dns_options import DnsCounters

__all__ = ["dns_metrics", "grpc_metrics", "http_metrics", "process_metrics"]

_ANSWERS: Final = {
    "1xx": "informational", "2xx": "successful", "3xx": "redirected", "4xx": "refused_client", "5xx": "failed_server",
}  # fmt: skip
_TOTALS: Final = {
    "cached": "Answers served again from their rendered bytes.",
    "received_bytes": "Bytes received.",
    "sent_bytes": "Bytes sent.",
    "accepted": "Connections accepted.",
    "turned_away": "Connections over a limit.",
    "malformed": "Requests that could not be read.",
    "timed_out": "Connections closed by a timeout of header, body or stall.",
    "errors": "Exceptions that no handler should have raised.",
    "dropped": "Answers whose client had gone.",
}
_DNS_TOTALS: Final = {
    "cached": "Answers served again from their rendered bytes.",
    "malformed": "Messages that could not be read.",
    "limited": "Answers that the rate limit dropped or cut short.",
    "dropped": "Answers that the kernel did not take, or whose client had gone.",
    "forwarded": "Queries passed on to recursors.",
    "unanswered": "Queries that no recursor answered.",
    "accepted": "TCP connections accepted.",
    "turned_away": "TCP connections over a limit.",
    "timed_out": "TCP connections closed for being idle.",
    "errors": "Exceptions that nothing should have raised.",
}
_GRPC_TOTALS: Final = {
    "received_bytes": "Bytes received.",
    "sent_bytes": "Bytes sent.",
    "accepted": "Connections accepted.",
    "turned_away": "Connections over a limit.",
    "malformed": "Connections and requests that broke HTTP/2's rules, or were no gRPC.",
    "timed_out": "Connections closed because nothing came from them, or they took nothing.",
    "cancelled": "Calls that the client took back, or whose connection broke.",
    "errors": "Exceptions that no handler should have raised.",
    "dropped": "Answers whose call was over.",
}
_GAUGES: Final = {"open": "Connections now.", "parked": "Parked reads now.", "streams": "Streams now."}
_STARTED_S: Final = time.time()


def http_metrics(counters: Mapping[str, Counters]) -> Iterator[str]:
    """Lines about the HTTP server of each face."""
    yield from _head("townhall_http_answers_total", "counter", "Answers by status class.")
    for face, counted in counters.items():
        for status, name in _ANSWERS.items():
            yield f'townhall_http_answers_total{{face="{face}",status="{status}"}} {getattr(counted, name)}'
    for name, about in _TOTALS.items():
        yield from _each(
            f"townhall_http_{name}_total", "counter", about, {f: getattr(c, name) for f, c in counters.items()}
        )
    for name, about in _GAUGES.items():
        yield from _each(f"townhall_http_{name}", "gauge", about, {f: getattr(c, name) for f, c in counters.items()})


def grpc_metrics(counters: Mapping[str, GrpcCounters]) -> Iterator[str]:
    """Lines about the gRPC server of each face that has one; nothing when none has."""
    if not counters:
        return
    yield from _head("townhall_grpc_calls_total", "counter", "Calls by gRPC's status code.")
    for face, counted in counters.items():
        for code, count in sorted({0: counted.succeeded, **counted.failed}.items()):
            yield f'townhall_grpc_calls_total{{face="{face}",code="{code}"}} {count}'
    for name, about in _GRPC_TOTALS.items():
        yield from _each(
            f"townhall_grpc_{name}_total", "counter", about, {f: getattr(c, name) for f, c in counters.items()}
        )
    for name, about in _GAUGES.items():
        yield from _each(f"townhall_grpc_{name}", "gauge", about, {f: getattr(c, name) for f, c in counters.items()})


def dns_metrics(counted: DnsCounters) -> Iterator[str]:
    """Lines about the DNS server."""
    yield from _head("townhall_dns_queries_total", "counter", "Queries by transport.")
    for transport in ("udp", "tcp"):
        yield f'townhall_dns_queries_total{{transport="{transport}"}} {getattr(counted, transport)}'
    for name, about in _DNS_TOTALS.items():
        yield from _one(f"townhall_dns_{name}_total", "counter", about, getattr(counted, name))
    yield from _one("townhall_dns_open", "gauge", "TCP connections now.", counted.open)


def process_metrics() -> Iterator[str]:
    """Lines about this process, under the names that Prometheus' own libraries use."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield from _one(
        "process_cpu_seconds_total", "counter", "Processor time, user and system.", usage.ru_utime + usage.ru_stime
    )
    yield from _one("process_start_time_seconds", "gauge", "When it started, Unix time.", _STARTED_S)
    yield from _one("process_resident_memory_bytes", "gauge", "Memory in use.", _resident(usage))
    yield from _one(
        "process_max_fds", "gauge", "Most files that may be open.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    )
    open_files = _open_files()
    if open_files is not None:
        yield from _one("process_open_fds", "gauge", "Files open now.", open_files)
    yield from _head("python_gc_collections_total", "counter", "Collections by generation.")
    for generation, counted in enumerate(gc.get_stats()):
        yield f'python_gc_collections_total{{generation="{generation}"}} {counted["collections"]}'


def _resident(usage: resource.struct_rusage) -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        # Elsewhere only the peak is known: kilobytes, but bytes on macOS.
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _open_files() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return None


def _head(name: str, kind: str, about: str) -> tuple[str, str]:
    return f"# HELP {name} {about}", f"# TYPE {name} {kind}"


def _one(name: str, kind: str, about: str, value: float) -> Iterator[str]:
    yield from _head(name, kind, about)
    yield f"{name} {value!r}"


def _each(name: str, kind: str, about: str, values: Mapping[str, int]) -> Iterator[str]:
    yield from _head(name, kind, about)
    for face, value in values.items():
        yield f'{name}{{face="{face}"}} {value}'
