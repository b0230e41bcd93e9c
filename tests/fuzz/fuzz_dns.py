"""Coverage-guided fuzzing of DNS packets (atheris).

Run with ``make fuzz``, or ``python tests/fuzz/fuzz_dns.py [libFuzzer options] [corpus directory]``. What it holds
against every input, in one sentence: reading either raises ``Malformed`` or gives a message that comes back when it
is rendered, and the face has an answer to every query, which can be read and is within what the client takes.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["townhall"]):
    from townhall.core.queries import Reader
    from townhall.core.state import State
    from townhall.face.dns import Asked, DnsOptions
    from townhall.face.dns.answering import DnsFace
    from townhall.face.dns.sizes import allowance, fit
    from townhall.model.access import Actor
    from townhall.model.errors import Malformed
    from townhall.wire.dns import parse_message, parse_query, render

FACE = DnsFace(DnsOptions(alt_domain="alt.test", recursion=True))
READER = Reader(State(), Actor(internal=True))
ASKED = Asked(1_000, lambda instances: None)


def check_query(data: bytes) -> None:
    try:
        query = parse_query(data)
    except Malformed:
        return
    resolution = FACE.resolve(query, READER, ASKED)
    for tcp in (False, True):
        answer = fit(query, resolution, FACE.options, tcp=tcp)
        assert len(answer) <= allowance(query, tcp=tcp), "an answer larger than the client takes"
        assert parse_message(answer).question == query.question, "an answer to another question"


def check_message(data: bytes) -> None:
    try:
        message = parse_message(data)
    except Malformed:
        return
    if message.edns is None:
        message = parse_message(render(message))
    assert parse_message(render(message)) == message, "it does not come back"


def one_input(data: bytes) -> None:
    check_query(data)
    check_message(data)
    # With a whole header and a name of ours in front, more of the inputs get past the parser.
    check_query(b"\0\1\1\0\0\1\0\0\0\0\0\0" + data[:60] + b"\7service\6consul\0\0\x21\0\1")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
