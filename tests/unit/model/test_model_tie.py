from __future__ import annotations

import msgspec

from townhall.model.tie import Direction, Tie


def test_a_tie_is_short_in_the_journal_and_means_the_usual_group():
    tie = Tie("etcd", b"service/", "naming", Direction.IMPORT)
    assert (tie.namespace, tie.group) == ("default", "default")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(tie), type=Tie) == tie
    assert hash(tie) == hash(Tie("etcd", b"service/", "naming", Direction("import")))
