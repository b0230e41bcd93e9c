"""Faces with what only the process can answer: a backup while running, and the process's own metrics.

A face is pure, so these two cannot live in it: the backup is an operation that the native face is given, and ``Extended`` adds
lines to what the face answers as metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from townhall.face import EndOfStream, Face, Pulled, Reply, Request, Route, Stream, Verb
from townhall.face.native.operations import Operation
from townhall.model.access import Level, Resource
from townhall.model.errors import Conflict, EngineFailed, OverLimit

if TYPE_CHECKING:
    from townhall.core.queries import Reader
    from townhall.hub.hub import Hub
    from townhall.model.errors import TownhallError

__all__ = ["Backups", "Extended"]

_PIECE_SIZE: Final = 262_144
"""Read in one turn of the loop: well below a millisecond from the page cache."""
_BACKUPS_MAX: Final = 2
"""At once; each reads the whole journal and keeps a copy on disk until it is sent."""
_TOLD_SIZE_MAX: Final = 2_000
_METRICS_PATHS: Final = ("/metrics", "/api/v1/metrics")


class Extended:
    """A face whose metrics are followed by the lines of ``metrics``."""

    def __init__(self, face: Face, metrics: Callable[[], Iterable[str]]) -> None:
        self.name = face.name
        self._face = face
        self._metrics = metrics
        self.routes: Sequence[Route] = tuple(map(self._extended, face.routes))

    def credentials(self, headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> str:
        """See ``Face``."""
        return self._face.credentials(headers, query)

    def error(self, error: TownhallError, request: Request | None) -> Reply:
        """See ``Face``."""
        return self._face.error(error, request)

    def no_route(self, method: str, path: str, allowed: Sequence[str]) -> Reply:
        """See ``Face``."""
        return self._face.no_route(method, path, allowed)

    def _extended(self, route: Route) -> Route:
        if route.method != "GET" or route.pattern not in _METRICS_PATHS:
            return route

        def metrics(request: Request, reader: Reader) -> Verb:
            verb = route.handler(request, reader)
            if not isinstance(verb, Reply) or verb.status != 200:
                return verb
            body = verb.body + ("\n".join(self._metrics()) + "\n").encode()
            return Reply(verb.status, body, verb.headers, verb.content_type)

        return route._replace(handler=metrics)


class Backups:
    """``GET /api/v1/backup``: a process of its own writes the backup, then it is sent piece by piece.

    ``data`` is the directory of the journal, None when everything is in memory.
    """

    def __init__(self, hub: Hub, data: Path | None) -> None:
        self._hub = hub
        self._data = data
        self._jobs: dict[int, asyncio.Task[None]] = {}
        self._count = 0

    def operation(self) -> Operation:
        """The row for the native face's table."""
        return Operation(
            method="GET", path="/backup", handler=self.answer, summary="A consistent copy of all data", tag="registry",
            answers={200: "application/octet-stream"}, refusals=(409, 429),
            description="Needs operator rights. The answer is cut off when the backup fails: only a whole one has a proper end.",
        )  # fmt: skip

    def answer(self, request: Request, reader: Reader) -> Verb:
        """A stream that ends with the backup's last byte. Raises ``Denied``, ``Conflict`` or ``OverLimit``."""
        reader.require(Resource.OPERATOR, Level.WRITE, "")
        if self._data is None:
            raise Conflict("this registry keeps everything in memory", advice="there is nothing to back up")
        if len(self._jobs) >= _BACKUPS_MAX:
            raise OverLimit("enough backups are being made already", advice="wait for them", limit=_BACKUPS_MAX)
        self._count += 1
        number = self._count
        job = _Job(self._data, lambda: self._hub.cursors.touch([("backup", number)]))
        task = asyncio.get_running_loop().create_task(job.run(), name=f"backup {number}")
        self._jobs[number] = task
        task.add_done_callback(lambda _: self._jobs.pop(number, None))
        headers = ((b"content-disposition", b'attachment; filename="townhall.backup"'),)
        return Stream([("backup", number)], job.pull, headers, b"application/octet-stream")

    async def stop(self) -> None:
        """Give up what is being made."""
        tasks = list(self._jobs.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Job:
    """One backup: made in a file that has no name any more once it is complete, so nothing needs to be tidied up."""

    def __init__(self, data: Path, wake: Callable[[], None]) -> None:
        self._data = data
        self._wake = wake
        self._file: BinaryIO | None = None
        self._failure: TownhallError | None = None

    async def run(self) -> None:
        """Make it; wakes the stream when it is there, or has failed."""
        try:
            # Beside the data, because /tmp may be memory and smaller.
            with tempfile.TemporaryDirectory(prefix=".backup-", dir=self._data) as directory:
                target = os.path.join(directory, "backup")
                await self._make(target)
                self._file = open(target, "rb")  # noqa: SIM115, ASYNC230 - closed with the last piece
        except OSError as error:
            self._failure = EngineFailed(f"the backup could not be written: {error.strerror}")
        except EngineFailed as error:
            self._failure = error
        self._wake()

    async def _make(self, target: str) -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "townhall", "backup", target, "--data", str(self._data),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            _, errors = await child.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
            raise
        if child.returncode:
            raise EngineFailed(errors[-_TOLD_SIZE_MAX:].decode(errors="replace").strip())

    def pull(self, reader: Reader) -> Pulled | None:
        """The next piece. Raises what went wrong, which cuts the stream: the client never takes a part for the whole."""
        if self._failure is not None:
            raise self._failure
        if self._file is None:
            return None
        piece = self._file.read(_PIECE_SIZE)
        if len(piece) < _PIECE_SIZE:
            self._file.close()
            raise EndOfStream(piece)
        # There is more: look again when the kernel has taken this, other requests first.
        self._wake()
        return Pulled(piece)
