"""A program that runs under our eyes: started in a process group of its own, signalled alone, cleared with its group.

A group of its own, because a terminal sends Ctrl-C to every process of its foreground group: the program would get it
at once, before anybody was told that it goes, and a second time from us. A program in the background of a terminal
cannot read from it, so where standard input is a terminal it gets an empty one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Self

__all__ = ["CANNOT_EXECUTE", "NOT_FOUND", "Child", "exit_code"]

CANNOT_EXECUTE = 126
NOT_FOUND = 127
"""As shells report them."""
_LOOK_S: Final = 0.05
"""Between two looks whether a group is empty: nobody is told when what is not our own child ends."""


class Child:
    """One run of a program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.ended = asyncio.get_running_loop().create_task(self._wait(), name="townhall-child")

    @classmethod
    async def start(cls, command: Sequence[str], environ: Mapping[str, str]) -> Self:
        """Start it, with our standard streams. Raises OSError (``FileNotFoundError`` when there is no such program)."""
        terminal = sys.stdin is not None and sys.stdin.isatty()
        process = await asyncio.create_subprocess_exec(
            *command,
            env=dict(environ),
            stdin=asyncio.subprocess.DEVNULL if terminal else None,
            process_group=0,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """Its process id, which is that of its group, too."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    def signal(self, number: int) -> None:
        """Pass a signal on to it, or to what it has left in its group when it has ended itself."""
        with suppress(ProcessLookupError):
            if self.running:
                self._process.send_signal(number)
            else:
                self.signal_group(number)

    def signal_group(self, number: int) -> None:
        """Signal it and whatever it has started, as far as that stayed in its group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    @property
    def leftover(self) -> bool:
        """Whether anything of its group is still there."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # Not ours to signal any more, and there all the same.
        return True

    async def clear(self, *, budget_s: float) -> bool:
        """End what it has left behind in its group, which would hold its port. False when some had to be killed."""
        self.signal_group(signal.SIGTERM)
        # Who is stopped hears of no signal before it is woken.
        self.signal_group(signal.SIGCONT)
        try:
            async with asyncio.timeout(budget_s):
                while self.leftover:  # noqa: ASYNC110 - other processes are waited for
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            self.signal_group(signal.SIGKILL)
            return False
        return True

    async def _wait(self) -> int:
        """Its exit code, as a shell has it."""
        return exit_code(await self._process.wait())


def exit_code(code: int) -> int:
    """An exit code as a shell reports it: 128 + N for a death by signal N (``-N`` in Python)."""
    return code if code >= 0 else 128 - code
