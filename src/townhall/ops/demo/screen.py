"""Shows the board: redrawn in place on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import shutil
from typing import TextIO

from townhall.ops.demo.board import Board
from townhall.ops.table import width

__all__ = ["Plain", "Screen", "Terminal"]


class Terminal:
    """Redraws in place with ANSI sequences; the cursor is hidden meanwhile."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._drawn = 0

    def show(self, board: Board) -> None:
        """Draw the board over the last drawing."""
        columns, rows = shutil.get_terminal_size()
        lines = [_cut(line, columns - 1) for line in board.lines()][: rows - 1]
        up = f"\x1b[{self._drawn}A" if self._drawn else "\x1b[?25l"
        # \x1b[K clears what an earlier, longer line left; \x1b[J what an earlier, longer drawing left.
        self._out.write(up + "".join(f"\r{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self._out.flush()
        self._drawn = len(lines)

    def close(self, board: Board) -> None:
        """Show the cursor again, then the summary below the last drawing."""
        self._out.write("\x1b[?25h\n" + board.summary() + "\n")
        self._out.flush()


class Plain:
    """A line for each event when it happens and when it was seen, and one with the counts every two seconds."""

    _EVERY_S = 2.0

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._begun = 0
        self._seen: set[int] = set()
        self._next_at = 0.0

    def show(self, board: Board) -> None:
        """Write what is new."""
        for event in board.events[self._begun :]:
            self._line(event.at, event.what)
        self._begun = len(board.events)
        for index, event in enumerate(board.events):
            if event.seen_at is not None and index not in self._seen:
                self._seen.add(index)
                self._line(event.seen_at, f"  {event.what}: {event.outcome()}")
        if board.elapsed >= self._next_at:
            self._next_at = board.elapsed + self._EVERY_S
            providers = " ".join(f"{name}={row.verdict}:{board.answers[name]}" for name, row in board.providers.items())
            self._line(
                board.elapsed,
                f"registry {board.registry}, consumer {board.consumer}, calls {board.calls}, failed {board.failed} | {providers}",
            )

    def close(self, board: Board) -> None:
        """Write the summary."""
        self.show(board)
        self._out.write("\n" + board.summary() + "\n")
        self._out.flush()

    def _line(self, at: float, text: str) -> None:
        self._out.write(f"{at:5.1f} s  {text}\n")
        self._out.flush()


Screen = Terminal | Plain


def _cut(line: str, columns: int) -> str:
    while width(line) > columns:
        line = line[:-1]
    return line
