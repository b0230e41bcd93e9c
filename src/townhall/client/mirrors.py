"""One mirror per registry and process: consumers that ask the same registry share its pictures and its stream."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from townhall.client.api import Registry
from townhall.client.http import HttpClient
from townhall.client.interface_book import InterfaceBook
from townhall.client.interface_files import InterfaceFiles
from townhall.client.interface_store import InterfaceStore
from townhall.client.mirror import Mirror
from townhall.client.snapshot_file import SnapshotFiles, default_directory

if TYPE_CHECKING:
    import ssl

__all__ = ["MirrorKey", "SharedMirror", "acquire", "own_name"]


_log = logging.getLogger("townhall.client")
_REVIVAL_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class MirrorKey:
    """What makes two consumers' mirrors the same."""

    urls: str | tuple[str, ...]
    token: str = ""
    snapshot_directory: str | None = ""
    """'' for the usual place, None for no snapshots."""
    name: str = ""
    ssl_context: ssl.SSLContext | None = None


class SharedMirror:
    """A mirror with its task and the number of its users. ``release`` it once for each ``acquire``."""

    def __init__(self, key: MirrorKey) -> None:
        self.key = key
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        self.users = 0
        registry = Registry(_urls(key.urls), token=key.token, ssl_context=key.ssl_context)
        files = interface_files = None
        if key.snapshot_directory is not None:
            directory = Path(key.snapshot_directory) if key.snapshot_directory else default_directory()
            files = SnapshotFiles(directory, registry.transport.origins)
            interface_files = InterfaceFiles(directory)
        self.mirror = Mirror(registry, name=key.name or own_name(), files=files)
        self.http = HttpClient(ssl_context=key.ssl_context, instances=True)
        """For calls to instances; it ends with the mirror."""
        self.interfaces = InterfaceBook(InterfaceStore(registry), self.http, interface_files)
        """What the instances of all services offer."""
        self._begin()

    def _begin(self) -> None:
        self._task = self.loop.create_task(self.mirror.run(), name="townhall-mirror")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """It was cancelled: by the last user, or by a loop that ends (a script that closes nothing).

        Anything else is a bug, of ours or of an application's balancer, and its callers should not pay for it.
        """
        if not task.cancelled() and (error := task.exception()) is not None and self.users > 0:
            _log.critical("the mirror failed and begins anew", exc_info=error)
            self.loop.call_later(_REVIVAL_PAUSE_S, self._begin)
            return
        self._close()

    @property
    def alive(self) -> bool:
        """Whether it still follows, in this process and this event loop."""
        return not self._task.done() and self.pid == os.getpid() and self.loop is asyncio.get_running_loop()

    async def release(self) -> None:
        """One user less; the last one ends it."""
        self.users -= 1
        if self.users <= 0:
            self._close()
            if self.alive:
                self._task.cancel()
                await asyncio.wait({self._task})

    def _close(self) -> None:
        _forget(self)
        self.interfaces.close()
        self.mirror.registry.transport.close()
        self.http.close()


_shared: dict[tuple[MirrorKey, int], SharedMirror] = {}


def acquire(key: MirrorKey) -> SharedMirror:
    """The mirror for this key in the running event loop, made when there is none."""
    place = (key, id(asyncio.get_running_loop()))
    shared = _shared.get(place)
    if shared is None or not shared.alive:
        # Not alive: made by the parent process before a fork, or in a loop whose place in memory is used again.
        shared = _shared[place] = SharedMirror(key)
    shared.users += 1
    return shared


def _forget(shared: SharedMirror) -> None:
    place = (shared.key, id(shared.loop))
    if _shared.get(place) is shared:
        del _shared[place]


def _urls(urls: str | tuple[str, ...]) -> str | Sequence[str]:
    return urls if isinstance(urls, str) else list(urls)


def own_name() -> str:
    """How operators see this process in the table of subscribers."""
    program = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python"
    return f"{program[:32]}@{socket.gethostname()[:64]}:{os.getpid()}"
