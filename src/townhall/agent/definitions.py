"""What to register and how to look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from townhall.client.definitions import Service
from townhall.client.records import Health
from townhall.model.check import CheckDefinition

__all__ = ["ADDRESS", "Definition", "placed"]

ADDRESS = "{address}"
"""Stands in a check's target for the address under which the service is registered; in brackets when it is IPv6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One service and its checks."""

    service: Service
    checks: Mapping[str, CheckDefinition]
    """By name. Without any, the service counts as well for as long as it is defined (its process lives)."""
    health: Health | None = None
    """What somebody else has found (Docker's own health check); the worse of it and of the checks counts."""

    @property
    def deregister_after_ms(self) -> int:
        """Critical for so long, it is taken out altogether until it is well again; 0 never."""
        given = [check.deregister_after_ms for check in self.checks.values() if check.deregister_after_ms]
        return min(given, default=0)


def placed(check: CheckDefinition, address: str) -> CheckDefinition:
    """The check with the address in its target."""
    if ADDRESS not in check.target:
        return check
    host = f"[{address}]" if ":" in address else address
    return replace(check, target=check.target.replace(ADDRESS, host))
