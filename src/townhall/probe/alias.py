"""Alias checks: as well as the checks of another instance, or of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from townhall.core.check_index import worst
from townhall.model.check import Check, CheckStatus
from townhall.probe import Finding
from townhall.probe.connection import failed

if TYPE_CHECKING:
    from townhall.core.queries import Reader

__all__ = ["follow_alias"]


def follow_alias(check: Check, reader: Reader) -> Finding:
    """What the alias says now. ``alias_node`` empty: the node of the check itself."""
    node, service = check.definition.alias_node or check.node, check.definition.alias_service
    others = [each for each in reader.checks_of_node(node) if (each.node, each.id) != (check.node, check.id)]
    if service:
        known = any(instance.id in {service, f"{node}/{service}"} for instance in reader.node_instances(node))
        if not known:
            return failed(f"Service {service} could not be found on node {node}")
        others = [each for each in others if not each.instance or each.instance in {service, f"{node}/{service}"}]
    else:
        others = [each for each in others if not each.instance]
    decisive = worst(others)
    if decisive is None:
        return Finding(CheckStatus.PASSING, "No checks found.")
    if decisive.status is CheckStatus.PASSING:
        return Finding(CheckStatus.PASSING, "All checks passing.")
    return Finding(decisive.status, f'Aliased check "{decisive.name}" failing: {decisive.output}')
