"""The words of leases: they are written to the journal, so they never change."""

from __future__ import annotations

from townhall.model.lease import EndReason, LeaseKind, SessionBehavior


def test_words_are_stable() -> None:
    assert [str(kind) for kind in LeaseKind] == ["instance", "keys"]
    assert [str(reason) for reason in EndReason] == ["expired", "revoked", "superseded", "operator"]
    assert [str(behavior) for behavior in SessionBehavior] == ["release", "delete"]
