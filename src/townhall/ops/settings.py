"""What can be configured: one frozen Struct per room, each field with its unit, default and bound.

A field's description is kept in its annotation rather than in a docstring, because ``--help``, ``config show`` and
docs/configuration.md are drawn from it. The rooms ``node`` and ``listen`` are top-level keys of the TOML file; every
other room is a table. A setting's key, option and variable follow from its name: ``log.level``, ``--log-level``,
``TOWNHALL_LOG_LEVEL``.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from townhall.model import limits

__all__ = [
    "TOP_LEVEL",
    "Access",
    "Capacity",
    "Floor",
    "History",
    "Http",
    "Journal",
    "Layouts",
    "Lease",
    "Listen",
    "Log",
    "Names",
    "Node",
    "Probe",
    "Reports",
    "Settings",
    "Tls",
]  # fmt: skip

TOP_LEVEL: Final = ("node", "listen")

_INT32: Final = 2_147_483_647


def about(text: str, *, metavar: str = "", **bounds: Any) -> Meta:
    """The annotation of a field: what it is, and its bounds (``ge``, ``le``, ``min_length``, …)."""
    return Meta(description=text, extra={"metavar": metavar}, **bounds)


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """This process."""

    data: Annotated[str, about("Directory of the journal; default $XDG_STATE_HOME/townhall.", metavar="DIR")] = ""
    dev: Annotated[bool, about("Keep everything in memory, turn every face on, and allow very short TTLs.")] = False
    name: Annotated[
        str, about("Name of this node, at most 128 bytes; default the host name.", metavar="NODE", max_length=128)
    ] = ""
    datacenter: Annotated[str, about("Name of the datacenter.", metavar="NAME", min_length=1, max_length=128)] = "dc1"
    ready_json: Annotated[bool, about("Write the ready line as one JSON object.")] = False


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """Faces; each value is HOST:PORT, PORT (on 127.0.0.1), nothing or 'on' (the usual port), or 'off'; port 0 is any free one."""

    # What each of them is, and its usual port, is said once, in ``ops.faces``.
    native: str = "on"
    consul: str = "off"
    dns: str = "off"
    etcd: str = "off"
    zookeeper: str = "off"
    eureka: str = "off"
    nacos: str = "off"
    xds: str = "off"
    all: Annotated[bool, about("Turn on every face that this version has, each on its usual port.")] = False


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged, on stderr."""

    level: Annotated[Literal["debug", "info", "warning", "error"], about("Least severity that is written.")] = "info"
    format: Annotated[Literal["text", "json"], about("Lines for people, or one JSON object a line.")] = "text"


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Certificates of the listeners; SIGHUP reads the files again."""

    cert: Annotated[str, about("Certificate chain, PEM; turns TLS on.", metavar="FILE")] = ""
    key: Annotated[str, about("Private key, PEM; default: in the same file as the chain.", metavar="FILE")] = ""
    client_ca: Annotated[
        str, about("Authorities that client certificates must come from, PEM; turns mTLS on.", metavar="FILE")
    ] = ""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Who may do what."""

    required: Annotated[
        bool, about("Refuse requests without a token. 'townhall token bootstrap' turns this on for good.")
    ] = False
    tokens_file: Annotated[
        str, about("Tokens and policies to keep in step with this TOML file; SIGHUP reads it again.", metavar="FILE")
    ] = ""
    etcd_auth_token: Annotated[
        str,
        about(
            "Tokens of etcd's users: 'simple', or 'jwt,sign-method=…,pub-key=FILE,priv-key=FILE,ttl=5m'.",
            metavar="SPEC",
        ),
    ] = "simple"  # noqa: S105 - a kind


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Lifetime of what registers itself."""

    ttl_min_ms: Annotated[
        int, about("Shortest TTL that is granted, milliseconds; with --dev 100.", ge=10, le=_INT32)
    ] = limits.LEASE_TTL_MIN_MS
    ttl_default_ms: Annotated[int, about("TTL of those who name none, milliseconds.", ge=10, le=_INT32)] = (
        limits.LEASE_TTL_DEFAULT_MS
    )
    eviction_grace_ttls: Annotated[
        float, about("How long a silent instance stays as suspect before it is removed, in TTLs.", ge=0, le=1000)
    ] = limits.EVICTION_GRACE_TTLS


class Reports(msgspec.Struct, frozen=True, kw_only=True):
    """What callers report about failed calls."""

    hold_ms: Annotated[
        int, about("How long they keep an instance out after the last one, milliseconds.", ge=100, le=_INT32)
    ] = limits.REPORT_HOLD_MS


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """Checks that the registry runs itself."""

    allow: Annotated[
        str, about("Networks that probes may dial, separated by commas; default all.", metavar="NETWORKS")
    ] = ""
    deny: Annotated[
        str,
        about("Networks that probes may not dial; link-local ones are denied unless allowed.", metavar="NETWORKS"),
    ] = ""
    dialback: Annotated[
        bool, about("Try the address of each registration once, if it is the registering client's own.")
    ] = True
    dialback_ranges: Annotated[
        str, about("Networks whose registrations are tried whoever makes them.", metavar="NETWORKS")
    ] = ""
    scripts: Annotated[bool, about("Run checks that are commands on this machine, as this user.")] = False
    interval_min_ms: Annotated[int, about("Shortest interval of a check, milliseconds.", ge=100, le=_INT32)] = (
        limits.CHECK_INTERVAL_MIN_MS
    )
    at_once_max: Annotated[int, about("Probes under way at the same time, count.", ge=1, le=100_000)] = (
        limits.PROBES_AT_ONCE_MAX
    )
    deregister_min_ms: Annotated[
        int,
        about(
            "How long a check must be critical, at least, before it takes its instance out, milliseconds; with --dev 1000.",
            ge=0,
            le=_INT32,
        ),
    ] = limits.DEREGISTER_CRITICAL_MIN_MS
    reap_interval_ms: Annotated[
        int,
        about(
            "How often instances that were critical for too long are looked for, milliseconds; with --dev 1000.",
            ge=50,
            le=_INT32,
        ),
    ] = limits.REAP_INTERVAL_MS


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """The removal floor, which holds back mass disappearance that nobody asked for."""

    registry: Annotated[
        float, about("Share of all instances below which silent deaths are held back; 0 switches it off.", ge=0, le=1)
    ] = limits.FLOOR_RATIO_DEFAULT
    registry_instances_min: Annotated[
        int, about("A registry with fewer known instances has no floor of its own, count.", ge=1, le=1_000_000)
    ] = limits.FLOOR_REGISTRY_INSTANCES_MIN
    instances_min: Annotated[
        int, about("A service with fewer known instances has no floor, count.", ge=1, le=1_000_000)
    ] = limits.FLOOR_INSTANCES_MIN
    window_ms: Annotated[
        int, about("How long a silent removal counts against the floor, milliseconds.", ge=0, le=limits.FLOOR_WINDOW_MS)
    ] = limits.FLOOR_WINDOW_MS
    hold_max_ms: Annotated[int, about("Longest that the floor holds an instance, milliseconds.", ge=0, le=_INT32)] = (
        limits.FLOOR_HOLD_MAX_MS
    )


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """How much the registry holds before it refuses more."""

    instances_max: Annotated[int, about("Instances, count.", ge=1, le=50_000_000)] = limits.INSTANCES_COUNT_MAX
    services_max: Annotated[int, about("Services, count.", ge=1, le=50_000_000)] = limits.SERVICES_COUNT_MAX
    leases_max: Annotated[int, about("Leases, count.", ge=1, le=50_000_000)] = limits.LEASES_COUNT_MAX
    space_size_max: Annotated[int, about("Each keyspace with its history, bytes.", ge=65_536)] = (
        limits.SPACE_SIZE_DEFAULT_MAX
    )


class History(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the past of keys is kept, within the limits that always hold."""

    etcd_revisions: Annotated[
        int, about("Revisions of etcd's keys that are kept, count; 0 does not compact by them.", ge=0, le=_INT32)
    ] = 0
    etcd_ms: Annotated[
        int, about("How long the past of etcd's keys is kept, milliseconds; 0 does not compact by time.", ge=0)
    ] = 0


class Http(msgspec.Struct, frozen=True, kw_only=True):
    """HTTP listeners."""

    connections_max: Annotated[int, about("Connections of one listener, count.", ge=1, le=1_000_000)] = (
        limits.CONNECTIONS_MAX
    )
    connections_per_address_max: Annotated[int, about("Connections from one address, count.", ge=1, le=1_000_000)] = (
        limits.CONNECTIONS_PER_ADDRESS_MAX
    )
    parked_per_address_max: Annotated[
        int, about("Long polls and streams of one address, count.", ge=1, le=1_000_000)
    ] = limits.PARKED_PER_ADDRESS_MAX
    header_timeout_ms: Annotated[
        int, about("From a request's first byte to the end of its header, milliseconds.", ge=10, le=_INT32)
    ] = limits.HEADER_TIMEOUT_MS
    body_timeout_ms: Annotated[
        int, about("Longest wait for a byte of an announced body, milliseconds.", ge=10, le=_INT32)
    ] = limits.BODY_TIMEOUT_MS
    idle_timeout_ms: Annotated[
        int, about("A kept-alive connection without a request, milliseconds.", ge=10, le=_INT32)
    ] = limits.IDLE_TIMEOUT_MS
    stop_timeout_ms: Annotated[
        int, about("How long a graceful stop waits for answers in flight, milliseconds.", ge=0, le=600_000)
    ] = 5_000


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """How names are answered over DNS."""

    domain: Annotated[str, about("Domain whose names are answered.", metavar="NAME", min_length=1, max_length=200)] = (
        "consul"
    )
    alt_domain: Annotated[
        str, about("A second domain that answers alike; empty for none.", metavar="NAME", max_length=200)
    ] = ""
    only_passing: Annotated[bool, about("Leave out instances whose checks warn.")] = False
    node_ttl_s: Annotated[int, about("Time to live of answers about nodes, seconds.", ge=0, le=_INT32)] = 0
    service_ttls: Annotated[
        str,
        about("Times to live of answers about services, seconds: 'web=10,api*=5,*=1'.", metavar="NAME=SECONDS,..."),
    ] = ""
    a_record_limit: Annotated[
        int, about("Most addresses in one answer, count; 0 for as many as fit.", ge=0, le=4_096)
    ] = 0
    answers_udp_max: Annotated[int, about("Most answers over UDP to a client without EDNS, count.", ge=1, le=8)] = (
        limits.DNS_ANSWERS_UDP_MAX
    )
    node_meta_txt: Annotated[bool, about("Add the metadata of nodes to answers that lead to them, as TXT.")] = True
    recursors: Annotated[
        str,
        about(
            "Servers to ask for other domains, in this order, as addresses; empty for none.", metavar="HOST[:PORT],..."
        ),
    ] = ""
    recursor_timeout_ms: Annotated[int, about("Wait for one of them, milliseconds.", ge=10, le=_INT32)] = (
        limits.DNS_RECURSOR_TIMEOUT_MS
    )
    idle_timeout_ms: Annotated[int, about("A TCP connection without a query, milliseconds.", ge=10, le=_INT32)] = (
        limits.DNS_IDLE_TIMEOUT_MS
    )
    rate: Annotated[
        int, about("Most UDP answers a second to one public network, count; 0 for no limit.", ge=0, le=_INT32)
    ] = limits.DNS_RATE_DEFAULT
    rate_local: Annotated[bool, about("Limit the answers to loopback and private networks, too.")] = False
    token_file: Annotated[str, about("File with the token whose rights all questions have.", metavar="FILE")] = ""


class Layouts(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that are instances, and instances that are shown as keys: see protocols/etcd-layouts.md."""

    etcd_import: Annotated[
        str,
        about(
            "Prefixes of etcd keys that are instances, each with its layout; empty for none.",
            metavar="PREFIX[=LAYOUT][@[NAMESPACE/]GROUP],...",
        ),
    ] = "service/=naming"
    etcd_export: Annotated[
        str,
        about(
            "Prefixes of etcd keys that show the callable instances of a group; nobody else writes there.",
            metavar="PREFIX[=LAYOUT][@[NAMESPACE/]GROUP],...",
        ),
    ] = ""


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """The journal on disk."""

    snapshot_every_commits: Annotated[int, about("Commits between two snapshots, count.", ge=100, le=_INT32)] = (
        limits.SNAPSHOT_EVERY_COMMITS
    )
    snapshot_every_size: Annotated[int, about("Journal bytes between two snapshots.", ge=65_536)] = (
        limits.SNAPSHOT_EVERY_SIZE
    )


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, room by room."""

    node: Node = Node()
    listen: Listen = Listen()
    log: Log = Log()
    tls: Tls = Tls()
    access: Access = Access()
    lease: Lease = Lease()
    reports: Reports = Reports()
    probe: Probe = Probe()
    floor: Floor = Floor()
    capacity: Capacity = Capacity()
    history: History = History()
    http: Http = Http()
    names: Names = Names()
    layouts: Layouts = Layouts()
    journal: Journal = Journal()
