"""A wall clock that tests can set, for the process that has this directory on its PYTHONPATH.

``time.time`` and ``time.time_ns`` are off by as many seconds as the file ``$CHAOS_CLOCK`` says, read anew at each call
as an operator's ``date -s`` would be seen at once. The monotonic clock stays as it is: no operator can set that one.
"""

from __future__ import annotations

import os
import time

_true_time, _true_time_ns = time.time, time.time_ns


def _off_s() -> float:
    try:
        with open(os.environ["CHAOS_CLOCK"]) as file:
            return float(file.read() or 0)
    except OSError:
        return 0.0


time.time = lambda: _true_time() + _off_s()
time.time_ns = lambda: _true_time_ns() + int(_off_s() * 1e9)
