"""The event loop that something belongs to: connections and tasks cannot be taken along to another one."""

from __future__ import annotations

import asyncio
import os

from townhall.model.errors import Misuse

__all__ = ["Home"]


class Home:
    """Belongs to the event loop that ``enter`` was last called in."""

    __slots__ = ("_pid", "loop")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        """None before the first ``enter``."""
        self._pid = 0

    def enter(self, what: str) -> bool:
        """Whether it belonged to the running loop already; from now on it does.

        If it did not, it is new, or its loop has ended (``asyncio.run`` again, a forked process): what it had there is of
        no use. Raises ``Misuse``, in which it is called ``what``, when its loop runs in another thread.
        """
        loop = asyncio.get_running_loop()
        if loop is self.loop:
            return True
        if self.loop is not None and self.loop.is_running() and not self.lost:
            raise Misuse(
                f"{what} belongs to an event loop that runs in another thread", advice="make one for each loop"
            )
        self.loop, self._pid = loop, os.getpid()
        return False

    @property
    def inherited(self) -> bool:
        """Whether its loop is the parent process's: what it has there must not even be closed."""
        return self._pid not in (0, os.getpid())

    @property
    def lost(self) -> bool:
        """Whether its loop is closed, or the parent process's."""
        return self.inherited or (self.loop is not None and self.loop.is_closed())
