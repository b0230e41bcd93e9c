"""Active checks: the registry looks for itself whether what is registered can be reached and works.

* A *prober* is a coroutine ``(CheckDefinition, Ground) -> Finding``, one per kind in ``look.PROBERS``. It raises
  nothing but cancellation: whatever goes wrong with the target is a finding.
* ``runner.Runner`` is the hub's ``Observer``: it schedules the checks of the state, runs them with bounded
  concurrency, applies their thresholds and submits ``SetCheck``.
* ``dialback.Dialback`` tries the address of each new registration once, if it may.
* ``ranges.Ranges`` says what may be dialled. Names are resolved first and the permitted address is dialled, so a name
  cannot lead elsewhere between the check and its use. Redirects never leave the host.

Probes must not become a tool for scanning a network: link-local addresses, where clouds keep their credentials, are
denied unless they are allowed explicitly, and a mass of registrations is dialled back only up to a bound.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckStatus
from townhall.probe.ranges import Ranges

__all__ = ["Finding", "Ground", "ProbeOptions", "Prober"]


class Finding(NamedTuple):
    """What one look found."""

    status: CheckStatus
    output: str


class Ground(NamedTuple):
    """What a prober may rely on."""

    ranges: Ranges
    timeout_ms: int
    """For the whole look; the runner ends it a little later in any case."""


Prober = Callable[[CheckDefinition, Ground], Awaitable[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """How the registry probes."""

    ranges: Ranges = field(default_factory=Ranges)
    """What probes may dial."""
    dialback_ranges: Ranges | None = None
    """What registrations may name beside the registering client's own address and still be dialled back; None: no
    other."""
    dialback: bool = True
    """Try the address of each registration once."""
    scripts: bool = False
    """Run checks that are commands on this machine, as this user."""
    interval_min_ms: int = limits.CHECK_INTERVAL_MIN_MS
    """Checks that ask for a shorter interval get this one."""
    at_once_max: int = limits.PROBES_AT_ONCE_MAX
    """Probes under way at the same time."""
    output_interval_ms: int = limits.PROBE_OUTPUT_INTERVAL_MS
    """How often an output is written down that changes while the status stays."""
