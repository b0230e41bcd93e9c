"""What became of commands, as answers: small renderers that the handlers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from townhall.core import Command, Outcome
from townhall.core.queries import Reader
from townhall.face import Reply, Submit, Verb
from townhall.face.native import problems
from townhall.face.native.rendering import position_header
from townhall.model.errors import TownhallError

__all__ = ["done", "submit"]

Render = Callable[[Reader, Outcome], Verb]


def submit(command: Command, render: Render) -> Submit:
    """Hand one command to the writer; a refusal becomes a problem, anything else what ``render`` makes of it."""

    def answer(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Verb:
        outcome = outcomes[0]
        return problems.reply(outcome) if isinstance(outcome, TownhallError) else render(reader, outcome)

    return Submit([command], answer)


def done(_: Reader, outcome: Outcome) -> Reply:
    """204: it is done and there is nothing to say about it."""
    return Reply(204, b"", (position_header(outcome.position),))
