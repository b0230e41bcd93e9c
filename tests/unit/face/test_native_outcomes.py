from __future__ import annotations

from typing import cast

from townhall.core import Outcome
from townhall.core.commands import Sweep
from townhall.core.queries import Reader
from townhall.face import Reply
from townhall.face.native import outcomes
from townhall.model.errors import Conflict

READER = cast("Reader", None)


def test_a_refusal_becomes_a_problem_and_an_outcome_is_rendered() -> None:
    verb = outcomes.submit(Sweep(count_max=1), outcomes.done)
    assert verb.commands == [Sweep(count_max=1)]
    refused = verb.render(READER, [Conflict("no")])
    assert isinstance(refused, Reply)
    assert refused.status == 409
    accepted = verb.render(READER, [Outcome(7, 0, ())])
    assert accepted == Reply(204, b"", ((b"x-townhall-revision", b"7"),))
