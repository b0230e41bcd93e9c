"""Facts: small, and with their newest fields last."""

from __future__ import annotations

from townhall.core import Commit, facts
from townhall.core.codec import encode_commit
from townhall.model.instance import Instance, ServiceKey
from townhall.model.lease import EndReason


def test_causes_are_small():
    assert len(encode_commit(Commit(0, 1_700_000_000_000, "n1", (facts.LeaseEnded(1 << 62, EndReason.EXPIRED),)))) < 50
    instance = Instance(key=ServiceKey("default", "default", "web"), id="web-1", address="127.0.0.1", port=80)
    assert len(encode_commit(Commit(0, 1_700_000_000_000, "n1", (facts.Registered(instance, True),)))) < 200


def test_fields_that_came_later_have_defaults():
    assert facts.LeaseGranted.__struct_fields__[-1] == "own"
    assert facts.LeaseGranted.__struct_defaults__ == (False,)
