"""The prober that the configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from townhall.probe import ProbeOptions
from townhall.probe.ranges import Ranges
from townhall.probe.runner import Runner

if TYPE_CHECKING:
    from townhall.hub.hub import Hub
    from townhall.ops.settings import Probe

__all__ = ["probe_options", "start_probes"]


def probe_options(probe: Probe) -> ProbeOptions:
    """Settings as options. Raises InvalidField for what is no network."""
    named = _networks(probe.dialback_ranges)
    return ProbeOptions(
        ranges=Ranges(_networks(probe.allow), _networks(probe.deny)),
        dialback_ranges=Ranges(named) if named else None,
        dialback=probe.dialback,
        scripts=probe.scripts,
        interval_min_ms=probe.interval_min_ms,
        at_once_max=probe.at_once_max,
    )


def start_probes(hub: Hub, options: ProbeOptions) -> Runner:
    """A running prober that follows the hub; needs the hub's loop. It is stopped before the hub."""
    runner = Runner(hub, options)
    hub.observer = runner
    runner.start()
    return runner


def _networks(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
