from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from townhall.model.errors import LeaseNotFound, Unreachable
from townhall.ops.commands import lock, watch


def leases(*answers: Exception | None) -> SimpleNamespace:
    """A registry whose renewals answer these in turn."""
    left = list(answers)

    async def renew(lease: str) -> None:
        answer = left.pop(0)
        if answer is not None:
            raise answer

    return SimpleNamespace(leases=SimpleNamespace(renew=renew), left=left)


def test_the_lock_is_lost_when_the_lease_has_ended():
    registry = leases(None, Unreachable("away"), None, LeaseNotFound("gone"))
    asyncio.run(lock._renew(registry, "7", 30))
    assert registry.left == []


def test_the_lock_is_lost_when_nobody_answered_for_a_whole_ttl():
    registry = leases(*[Unreachable("away")] * 1_000)
    asyncio.run(lock._renew(registry, "7", 30))
    assert len(registry.left) < 1_000


@pytest.mark.parametrize(
    ("holder", "text"),
    [
        ({"value": "host:1", "lease": "7"}, "host:1"),
        ({"lease": "7"}, "7"),
        ({}, "somebody else"),
        (None, "somebody else"),
        ("x", "x"),
    ],
)
def test_the_holder_in_words(holder, text):
    assert lock._holder(holder) == text


INSTANCE = {
    "id": "w1",
    "address": "127.0.0.1",
    "port": 1,
    "verdict": "suspect",
    "weight": 1.0,
    "held": True,
    "reason": "silent",
}


def test_watch_lines_for_people(capsys):
    target = SimpleNamespace(json=False)
    watch._tell(target, "snapshot", json.dumps({"service": "web", "instances": []}))
    watch._tell(target, "delta", json.dumps({"service": "web", "changed": [INSTANCE], "removed": ["w2"]}))
    watch._tell(target, "ready", json.dumps({"revision": 3}))
    lines = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["= web has no instances", "~ web w1 127.0.0.1:1 suspect (held) weight 1  silent", "- web w2"]


def test_watch_lines_for_programs(capsys):
    watch._tell(SimpleNamespace(json=True), "delta", b'{"service":"web","removed":["w2"]}')
    assert json.loads(capsys.readouterr().out) == {"event": "delta", "service": "web", "removed": ["w2"]}
