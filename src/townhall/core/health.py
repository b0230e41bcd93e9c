"""The one health verdict, as a pure function of all the evidence (docs/health.md has the table)."""

from __future__ import annotations

from townhall.model.instance import CLEAR, PROBED, Evidence, Verdict

__all__ = ["judge"]

_UP = (Verdict.UP, "")


def judge(*, enabled: bool, ready: bool, evidence: Evidence) -> tuple[Verdict, str]:
    """The verdict and its reason: the first row that applies, deliberate words before what was observed."""
    if (evidence is CLEAR or evidence is PROBED) and enabled and ready:  # nearly always
        return _UP
    return _deliberate(enabled=enabled, evidence=evidence) or _observed(ready=ready, evidence=evidence)


def _deliberate(*, enabled: bool, evidence: Evidence) -> tuple[Verdict, str] | None:
    if evidence.override is not None:
        return evidence.override, evidence.override_reason or "operator's override"
    if evidence.maintenance:
        return Verdict.MAINTENANCE, evidence.maintenance
    if not enabled:
        return Verdict.MAINTENANCE, "disabled"
    if evidence.draining_at:
        return Verdict.DRAINING, "draining"
    return None


def _observed(*, ready: bool, evidence: Evidence) -> tuple[Verdict, str]:
    if evidence.lapsed_at or evidence.disconnected_at:
        what = "lease lapsed" if evidence.lapsed_at else "connection lost"
        return Verdict.SUSPECT, f"{what}, held by the removal floor" if evidence.held else what
    if evidence.probe is Verdict.DOWN:
        return Verdict.DOWN, evidence.probe_output or "probe failed"
    if evidence.reported_at:
        return Verdict.SUSPECT, evidence.report or "reported by callers"
    if evidence.probe is Verdict.SUSPECT:
        return Verdict.SUSPECT, evidence.probe_output or "probe warns"
    if not ready:
        return Verdict.STARTING, "starting"
    return _UP
