"""gunicorn, found: one registration for the listening socket, by the master, whatever number of workers serves it.

The master registers when it listens, as not to be called until the first worker has loaded the application. SIGTERM is ours
first: gunicorn closes its socket as soon as it has it, which is too late for those who still call. So the master drains and
deregisters while its workers serve on, and delivers the signal to gunicorn afterwards, which waits for running requests.

The SDK's event loop runs in a thread of the master (``loop_thread``); a worker has no such thread and needs none.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, Unpack

from townhall.client.api import DEFAULT_URL
from townhall.client.blocking import Provider
from townhall.client.callbacks import call
from townhall.client.provider import ProviderOptions

__all__ = ["Registration"]

_log = logging.getLogger("townhall.client")


class Registration:
    """For ``gunicorn.conf.py``: make one and name its hooks, ``when_ready``, ``post_worker_init`` and ``on_exit``.

    Takes what ``Provider`` takes; ``port`` is that of ``bind`` unless it is given. ``drain_on_stop`` and
    ``handle_signals`` are on. A start that cannot register fails.
    """

    def __init__(
        self,
        urls: str | Sequence[str] = DEFAULT_URL,
        **options: Unpack[ProviderOptions],
    ) -> None:
        self._handle_signals = options.pop("handle_signals", True)
        self._health = options.pop("health", None)
        self._urls = urls
        self._options: ProviderOptions = {"drain_on_stop": True, **options}
        self._pid = 0
        self._serving = (-1, -1)
        """A pipe by which the first worker tells the master that it serves."""
        self._previous: Callable[[int, FrameType | None], Any] | int | None = None
        self.provider: Provider | None = None
        """In the master, while it runs."""

    def when_ready(self, server: Any) -> None:
        """Gunicorn's hook: the master listens."""
        self._serving = os.pipe()
        for end in self._serving:
            os.set_blocking(end, False)
        self._pid = os.getpid()
        options: ProviderOptions = {**self._options, "register_unready": True, "health": self._healthy}
        if not options.get("services") and not options.get("port"):
            options["port"] = _bound_port(server)
        provider = Provider(self._urls, **options)
        provider.start()
        self.provider = provider
        if self._handle_signals:
            self._previous = signal.signal(signal.SIGTERM, self._received)

    def post_worker_init(self, worker: Any) -> None:
        """Gunicorn's hook: a worker has loaded the application."""
        try:
            os.write(self._serving[1], b".")
        except OSError as error:
            # Nobody reads what later workers say; a pipe that is full of it has said enough.
            _log.debug("the master is not told: %s", error)

    def on_exit(self, server: Any) -> None:
        """Gunicorn's hook: everything has ended. Deregisters, if that has not been done before."""
        if self.provider is not None and os.getpid() == self._pid:
            self.provider.stop()

    async def _healthy(self) -> object:
        """No until the first worker serves, then what the application's own ``health`` says."""
        reader, _ = self._serving
        if reader >= 0:
            try:
                os.read(reader, 4096)
            except BlockingIOError:
                raise ConnectionError("no worker serves yet") from None
            self._serving = (-1, self._serving[1])
        return await call(self._health)

    def _received(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM, in the main thread, which goes on meanwhile: it looks after the workers."""
        previous = self._previous if self._previous is not None else signal.SIG_DFL
        signal.signal(number, previous)
        if os.getpid() != self._pid:
            os.kill(os.getpid(), number)  # a worker that has just been forked and has no handler of its own yet
            return
        threading.Thread(target=self._leave, args=(number,), name="townhall-leave").start()

    def _leave(self, number: int) -> None:
        try:
            if self.provider is not None:
                self.provider.stop()
        finally:
            os.kill(self._pid, number)


def _bound_port(server: Any) -> int:
    """The port of the first socket that has one."""
    for listener in server.LISTENERS:
        name = listener.getsockname()
        if isinstance(name, tuple):
            return int(name[1])
    return 0
