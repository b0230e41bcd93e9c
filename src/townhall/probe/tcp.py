"""TCP: who accepts a connection (and completes TLS, when asked) is well."""

from __future__ import annotations

import asyncio

from townhall.model.check import CheckDefinition, CheckStatus
from townhall.probe import Finding, Ground
from townhall.probe.connection import FAILURES, Tls, connected, failed, split_target, why

__all__ = ["probe_tcp"]


async def probe_tcp(definition: CheckDefinition, ground: Ground) -> Finding:
    """Connect and hang up."""
    tls = Tls(not definition.tls_skip_verify, definition.tls_server_name) if definition.tls else None
    try:
        async with asyncio.timeout(ground.timeout_ms / 1000):
            async with connected(split_target(definition.target), ground, tls):
                return Finding(CheckStatus.PASSING, f"TCP connect {definition.target}: Success")
    except FAILURES as error:
        return failed(f"dial tcp {definition.target}: {why(error)}")
