"""What an agent tells, on stderr: a line for people, or one JSON object a line. Standard output belongs to programs."""

from __future__ import annotations

import json as json_
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from townhall.agent import Notice, Tell

__all__ = ["teller"]


def teller(*, json: bool, quiet: bool = False, stream: TextIO | None = None) -> Tell:
    """A function that writes notices. A stream that nobody reads any more is no reason to stop."""

    def tell(notice: Notice) -> None:
        if quiet and not notice.warning:
            return
        if json:
            line = json_.dumps(
                {"event": notice.event, "service": notice.service, "warning": notice.warning, "text": notice.text}
            )
        else:
            line = f"townhall: {notice.service + ': ' if notice.service else ''}{notice.text}"
        try:
            (stream or sys.stderr).write(line.replace("\r", "\\r").replace("\n", "\\n") + "\n")
            (stream or sys.stderr).flush()
        except OSError:
            return

    return tell
