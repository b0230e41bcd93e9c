"""Snapshots by a process of their own, so that the registry's loop is never held up while one is written.

``ProcessCompactor`` is what the hub is given; ``python -m townhall.ops.compactor DIR`` is the process. It opens the
directory read-only beside the writer, replays snapshot and journal into a State, and saves that as the new snapshot.
The hub trims the journal afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Final

from townhall.model.errors import EngineFailed, TownhallError

__all__ = ["ProcessCompactor", "compact"]

_NICENESS: Final = 10
"""Answers come first; a snapshot may take its time."""
_ERROR_SIZE_MAX: Final = 8_192


class ProcessCompactor:
    """Runs one compaction at a time in a process of its own; implements ``hub.snapshots.Compactor``."""

    __slots__ = ("_directory",)

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def compact(self) -> int:
        """Save a snapshot; returns its position. Raises ``EngineFailed`` with what the process said. Cancelling ends it."""
        # -P: what lies where the registry was started must not stand in for the modules of Python.
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "townhall.ops.compactor", str(self._directory),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            # A Ctrl-C for the registry must not end it half way: the hub does that by cancelling.
            start_new_session=True,
        )  # fmt: skip
        try:
            out, errors = await child.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
            raise
        text = out.decode(errors="replace").strip()
        if child.returncode or not text.isdecimal():
            said = errors[-_ERROR_SIZE_MAX:].decode(errors="replace").strip()
            raise EngineFailed(f"the compactor ended with {child.returncode}: {said}")
        return int(text)


def compact(directory: Path) -> int:
    """Open read-only, replay, save; returns the snapshot's position. Raises ``EngineFailed`` or ``Damaged``."""
    from townhall.core.codec import dump_state  # noqa: PLC0415 - only the process needs the core
    from townhall.engine.file import FileEngine  # noqa: PLC0415
    from townhall.hub.recovery import recover  # noqa: PLC0415

    engine = FileEngine(directory, read_only=True)
    recovered = recover(engine)
    try:
        position = recovered.state.position
        if position > recovered.snapshot:
            engine.save(position, dump_state(recovered.state))
        return position
    finally:
        engine.close()


def main(arguments: list[str]) -> int:
    """The process: prints the position, or one line on stderr and 1."""
    os.nice(_NICENESS)
    # Linux weighs sessions against each other before processes, and this process has a session of its own, so that
    # a Ctrl-C meant for the server does not end it half way.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICENESS))
    try:
        sys.stdout.write(f"{compact(Path(arguments[0]))}\n")
    except TownhallError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
