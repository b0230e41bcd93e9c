from __future__ import annotations

import io
import json

from townhall.agent import Notice
from townhall.ops.notices import teller


def test_a_line_for_people_and_one_for_machines():
    out = io.StringIO()
    teller(json=False, stream=out)(Notice("out", "HTTP 500\nmore", "web", warning=True))
    assert out.getvalue() == "townhall: web: HTTP 500\\nmore\n"
    out = io.StringIO()
    teller(json=True, stream=out)(Notice("out", "HTTP 500", "web", warning=True))
    assert json.loads(out.getvalue()) == {"event": "out", "service": "web", "warning": True, "text": "HTTP 500"}


def test_quiet_keeps_warnings():
    out = io.StringIO()
    tell = teller(json=False, quiet=True, stream=out)
    tell(Notice("started", "process 1"))
    tell(Notice("away", "the registry is away", warning=True))
    assert out.getvalue() == "townhall: the registry is away\n"


def test_a_stream_that_nobody_reads_is_no_reason_to_stop():
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    teller(json=False, stream=Broken())(Notice("started", "process 1"))
