"""Process 1 of a container: reaps what nobody waits for and passes signals on, while the real work runs in a child.

Orphans become children of process 1. Were that the process that also waits for a program and for scripts, each waiting
would have to know whose end it has taken. A process that does nothing else reaps whatever comes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

__all__ = ["become_init", "take_orphans"]

_FORWARDED: Final = frozenset(
    {
        signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
        signal.SIGCONT, signal.SIGTTIN, signal.SIGTTOU,
    }
)  # fmt: skip
_PR_SET_CHILD_SUBREAPER: Final = 36


def take_orphans() -> None:
    """Have the orphans among our descendants become our children although we are not process 1 (Linux).

    Raises OSError where there is no such thing.
    """
    if sys.platform != "linux":
        raise OSError("only Linux gives orphans to another process than 1")
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def become_init() -> None:
    """Fork: returns in the child, which goes on as if nothing had happened; the parent ends with the child's exit code.

    Call it before there are threads.
    """
    waited_for = _FORWARDED | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    child = os.fork()
    if child == 0:
        # A terminal sends Ctrl-C to the whole group; the parent passes it on, and once is enough.
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait(waited_for)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        code = _reap(child)
        if code is not None:
            os._exit(code)


def _reap(child: int) -> int | None:
    """Take in all that have ended; the exit code of ``child`` once it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code
