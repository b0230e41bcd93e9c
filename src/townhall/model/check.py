"""Checks and nodes: what is watched from outside, how, and the machine or agent it belongs to.

A check hangs on an instance, or on a whole node. What it says becomes evidence (``Evidence.probe``) of the instances
concerned, beside leases, reports and the operator's word.
"""

from __future__ import annotations

import enum

import msgspec

from townhall.model.instance import ServiceKey

__all__ = ["ACTIVE_KINDS", "Check", "CheckDefinition", "CheckKind", "CheckStatus", "Node", "word_name"]


class CheckStatus(enum.StrEnum):
    """What a check says. A warning does not take an instance from its callers; critical does."""

    PASSING = "passing"
    WARNING = "warning"
    CRITICAL = "critical"


class CheckKind(enum.StrEnum):
    """Who finds the status out."""

    NONE = "none"
    """Whoever sets it from outside."""
    TTL = "ttl"
    """The process itself, by saying so within each TTL."""
    HTTP = "http"
    TCP = "tcp"
    UDP = "udp"
    GRPC = "grpc"
    ALIAS = "alias"
    """Follows the checks of another instance or node."""
    SCRIPT = "script"
    DOCKER = "docker"


ACTIVE_KINDS = frozenset({CheckKind.HTTP, CheckKind.TCP, CheckKind.UDP, CheckKind.GRPC, CheckKind.SCRIPT})
"""Kinds that the registry itself runs against the process."""


class CheckDefinition(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """How a check is run. What a kind does not need stays at its default."""

    kind: CheckKind = CheckKind.NONE
    interval_ms: int = 0
    timeout_ms: int = 0
    """0 takes the default of the kind."""
    ttl_ms: int = 0
    target: str = ""
    """URL (http), ``host:port`` (tcp, udp), ``host:port[/service]`` (grpc), container id (docker)."""
    method: str = ""
    """HTTP method; empty means GET."""
    headers: dict[str, tuple[str, ...]] = {}
    body: str = ""
    tls: bool = False
    """TLS for tcp and grpc; http says so in its URL."""
    tls_skip_verify: bool = False
    tls_server_name: str = ""
    grpc_service: str = ""
    alias_node: str = ""
    alias_service: str = ""
    """Instance id on ``alias_node``; empty: the node-level checks of that node."""
    success_before_passing: int = 0
    """Successes in a row that it takes to be passing; 0 and 1 are the same."""
    failures_before_warning: int = 0
    """Failures in a row that it takes to warn; 0: it is critical without warning."""
    failures_before_critical: int = 0
    """Failures in a row that it takes to be critical; 0 and 1 are the same."""
    deregister_after_ms: int = 0
    """Critical for so long takes the instance out of the catalogue; 0 never."""
    follow_redirects: bool = True
    """Within the same host; never to another."""
    arguments: tuple[str, ...] = ()
    """Command line of a script."""
    shell: str = ""
    """Shell within the container (docker)."""


NO_DEFINITION = CheckDefinition()


def word_name(key: ServiceKey, instance: str) -> tuple[str, str]:
    """``(node, id)`` of the check that holds the provider's own word on an instance's health. It belongs to no node, and
    there is one for each instance.
    """
    return "", "/".join((*key, instance))


class Check(msgspec.Struct, frozen=True, gc=False, array_like=True, kw_only=True):
    """One check, as it stands. ``(node, id)`` names it."""

    node: str
    id: str
    name: str = ""
    status: CheckStatus = CheckStatus.CRITICAL
    output: str = ""
    notes: str = ""
    key: ServiceKey | None = None
    """The service of the instance it is about; None for a check of the whole node."""
    instance: str = ""
    """Id of that instance; empty for a check of the whole node."""
    definition: CheckDefinition = NO_DEFINITION
    created: int = 0
    """Journal position of the commit that made it."""
    revision: int = 0
    """Journal position of the last change."""
    since: int = 0
    """When the status last changed, Unix milliseconds."""

    @property
    def service_name(self) -> str:
        """Name of the service it is about; empty for a check of the whole node."""
        return "" if self.key is None else self.key.name


class Node(msgspec.Struct, frozen=True, gc=False, array_like=True, kw_only=True):
    """A machine or agent, in protocols that have one."""

    name: str
    id: str = ""
    """UUID text; may be empty."""
    address: str = ""
    tagged_addresses: dict[str, str] = {}
    meta: dict[str, str] = {}
    created: int = 0
    revision: int = 0
    """Journal position of the last change of the node itself; see ``Reader.node_revision`` for what is on it."""
