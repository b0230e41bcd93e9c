"""One look by whichever prober a check needs: bounded in time, and never an exception."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckKind
from townhall.probe import Finding, Ground, Prober
from townhall.probe.connection import failed
from townhall.probe.grpc import probe_grpc
from townhall.probe.http import probe_http
from townhall.probe.ranges import Ranges
from townhall.probe.script import probe_script
from townhall.probe.tcp import probe_tcp
from townhall.probe.udp import probe_udp

__all__ = ["PROBERS", "look"]

PROBERS: Final[Mapping[CheckKind, Prober]] = {
    CheckKind.HTTP: probe_http,
    CheckKind.TCP: probe_tcp,
    CheckKind.UDP: probe_udp,
    CheckKind.GRPC: probe_grpc,
    CheckKind.SCRIPT: probe_script,
}
"""Docker checks are never run: whoever may talk to its socket is root on this machine."""
ABANDON_MS: Final = 1_000
"""A prober that outlives its timeout by this is cancelled."""


async def look(definition: CheckDefinition, ranges: Ranges, on_broken: Callable[[Exception], None]) -> Finding:
    """What the check finds now. A prober that breaks in an unforeseen way is told of, and found critical."""
    timeout_ms = min(definition.timeout_ms or limits.CHECK_TIMEOUT_DEFAULT_MS, limits.CHECK_TIMEOUT_MAX_MS)
    try:
        async with asyncio.timeout((timeout_ms + ABANDON_MS) / 1000):
            return await PROBERS[definition.kind](definition, Ground(ranges, timeout_ms))
    except TimeoutError:
        return failed(f"timed out after {timeout_ms} ms")
    except Exception as error:
        # One target must not end the probes of all others, whatever it makes a library do.
        on_broken(error)
        return failed(f"the probe broke: {error}")
