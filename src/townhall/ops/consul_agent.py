"""What Consul's clients ask of the process itself: its log as a stream, a reload, its metrics, a snapshot.

A face is pure, so these rows of its table are made here and handed to it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
import time
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from townhall.core.codec import dump_state
from townhall.face import EndOfStream, Pulled, Reply, Request, Route, Stream, Verb
from townhall.face.consul.agent_self import AgentSelf, monitor_level
from townhall.face.consul.blocking import policy
from townhall.face.consul.picture import Picture
from townhall.face.consul.requests import first, flag
from townhall.face.consul.snapshot import guard
from townhall.face.native.metrics import exposition
from townhall.model.access import Level, Resource
from townhall.model.errors import EngineFailed, OverLimit
from townhall.ops.logging import JsonLines
from townhall.ops.version import version
from townhall.wire import consul_snapshot as archive

if TYPE_CHECKING:
    from townhall.core.queries import Reader
    from townhall.face.consul.site import Site
    from townhall.hub.hub import Hub
    from townhall.model.errors import TownhallError

__all__ = ["ConsulAgent"]

_PIECE_SIZE: Final = 262_144
_SNAPSHOTS_MAX: Final = 2
"""Archives being made; each keeps a copy of everything on disk until it is sent."""
MONITORS_MAX: Final = 16
"""Clients that follow the log at once; each is handed every line."""
LINES_MAX: Final = 1_024
"""Lines kept for one of them that does not take them; then the oldest go."""
_PLAIN: Final = b"text/plain; charset=utf-8"
_PROMETHEUS: Final = b"text/plain; version=0.0.4; charset=utf-8"
_HEARTBEAT_MS: Final = 30_000
_LEVEL_WIDTH: Final = 7


class ConsulAgent:
    """Makes the rows. ``reload`` is what SIGHUP does; ``metrics`` gives the process's own lines of ``/metrics``."""

    def __init__(
        self, hub: Hub, data: Path | None, site: Site, *, reload: Callable[[], None],
        metrics: Callable[[], Iterable[str]],
    ) -> None:  # fmt: skip
        self._hub = hub
        self._data = data
        self._site = site
        self._face = AgentSelf(Picture(site))
        self._reload = reload
        self._metrics = metrics
        self._numbers = count(1)
        self._jobs: dict[int, asyncio.Task[None]] = {}
        self._log = _LogTap(asyncio.get_running_loop())
        logging.getLogger().addHandler(self._log)

    def routes(self) -> tuple[Route, ...]:
        """Rows that take the place of the face's own of the same method and path."""
        return (
            Route("GET", "/v1/agent/monitor", self.monitor),
            Route("PUT", "/v1/agent/reload", self.reload),
            Route("GET", "/v1/agent/metrics", self.metrics),
            Route("GET", "/v1/snapshot", self.snapshot),
        )

    async def stop(self) -> None:
        """Give up snapshots that are being made, and listen to the log no longer."""
        logging.getLogger().removeHandler(self._log)
        tasks = list(self._jobs.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the log

    def monitor(self, request: Request, reader: Reader) -> Verb:
        """The log from now on, of a least severity; what a slow reader misses is counted and told."""
        reader.require(Resource.AGENT, Level.READ, "")
        level = monitor_level(request)
        if len(self._log.listeners) >= MONITORS_MAX:
            raise OverLimit("enough clients follow the log", advice="use one of them", limit=MONITORS_MAX)
        interest = ("monitor", next(self._numbers))
        listener = _Listener(level, as_json=flag(request, "logjson"), wake=lambda: self._hub.cursors.touch((interest,)))
        self._log.listeners.add(listener)
        return Stream([interest], listener.pull, (policy(reader),), _PLAIN, heartbeat=b"\n", heartbeat_ms=_HEARTBEAT_MS)

    def reload(self, request: Request, reader: Reader) -> Verb:
        """Certificates, tokens and log level are read again; what cannot be read is told in the log and stays."""
        reader.require(Resource.AGENT, Level.WRITE, "")
        self._reload()
        return Reply(200, b"", (policy(reader),))

    def metrics(self, request: Request, reader: Reader) -> Verb:
        """As the face answers; in Prometheus' form what ``/metrics`` of the native port says."""
        if first(request, "format") != "prometheus":
            return self._face.metrics(request, reader)
        reader.require(Resource.AGENT, Level.READ, "")
        body = exposition(request.live.status(), version=version()) + ("\n".join(self._metrics()) + "\n").encode()
        return Reply(200, body, (policy(reader),), _PROMETHEUS)

    # --- snapshots

    def snapshot(self, request: Request, reader: Reader) -> Verb:
        """An archive of all that is known, as it is now; commits meanwhile are not in it."""
        guard(reader)
        if len(self._jobs) >= _SNAPSHOTS_MAX:
            raise OverLimit("enough snapshots are being made", advice="wait", limit=_SNAPSHOTS_MAX)
        number = next(self._numbers)
        interest = ("snapshot", number)
        job = _Snapshot(self._hub, self._data, self._site, wake=lambda: self._hub.cursors.touch((interest,)))
        task = asyncio.get_running_loop().create_task(job.run(), name=f"snapshot {number}")
        self._jobs[number] = task
        task.add_done_callback(lambda _: self._jobs.pop(number, None))
        index = b"%d" % (reader.position + 1)
        headers = (
            (b"X-Consul-Index", index), (b"X-Consul-KnownLeader", b"true"), (b"X-Consul-LastContact", b"0"),
            (b"X-Consul-Query-Backend", b"blocking-query"), policy(reader),
        )  # fmt: skip
        return Stream([interest], job.pull, headers, b"application/x-gzip")


class _LogTap(logging.Handler):
    """Hands records to whoever follows the log. Records may come from any thread; listeners live in the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        # A stream whose client is gone is told to nobody: its listener goes with it.
        self.listeners: weakref.WeakSet[_Listener] = weakref.WeakSet()

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        if len(self.listeners) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hand, record)

    def _hand(self, record: logging.LogRecord) -> None:
        for listener in list(self.listeners):
            listener.take(record)


class _Listener:
    """One client's view of the log: the lines that it has not taken yet, the oldest of which are dropped."""

    def __init__(self, level: int, *, as_json: bool, wake: Callable[[], None]) -> None:
        self._level = level
        self._json = JsonLines() if as_json else None
        self._wake = wake
        self._lines: deque[str] = deque(maxlen=LINES_MAX)
        self._dropped = 0

    def take(self, record: logging.LogRecord) -> None:
        """A record was logged."""
        if record.levelno < self._level:
            return
        if len(self._lines) == self._lines.maxlen:
            self._dropped += 1
        self._lines.append(self._json.format(record) if self._json is not None else _line(record))
        self._wake()

    def pull(self, reader: Reader) -> Pulled | None:
        """What came since the last time."""
        if not self._lines:
            return None
        lines, dropped = list(self._lines), self._dropped
        self._lines.clear()
        self._dropped = 0
        if dropped:
            lines.insert(0, f"[WARN]  {dropped} lines were dropped, as they were not taken in time")
        return Pulled(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))


def _line(record: logging.LogRecord) -> str:
    """As Consul writes it: ``2031-05-01T10:00:00.123Z [INFO]  hub: message``."""
    level = "WARN" if record.levelno == logging.WARNING else record.levelname
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
    message = record.getMessage().replace("\n", "\\n")
    return f"{moment} {f'[{level}]':<{_LEVEL_WIDTH}} {record.name.removeprefix('townhall.')}: {message}"


class _Snapshot:
    """One archive: the state is written to a file without a name in slices, then sent and packed on the way."""

    def __init__(self, hub: Hub, data: Path | None, site: Site, *, wake: Callable[[], None]) -> None:
        self._hub = hub
        self._data = data
        self._site = site
        self._wake = wake
        self._pieces: Iterator[bytes] | None = None
        self._failure: TownhallError | None = None

    async def run(self) -> None:
        """Write the state; wakes the stream when it is there, or has failed."""
        try:
            file = cast("BinaryIO", tempfile.TemporaryFile(prefix=".snapshot-", dir=self._data))  # noqa: SIM115
            digest, size, index = hashlib.sha256(), 0, self._hub.state.position + 1
            chunks = dump_state(self._hub.state)
            for piece in self._state(index, chunks):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
                await asyncio.sleep(0)
            file.seek(0)
            self._pieces = self._packed(file, digest.hexdigest(), size, index)
        except OSError as error:
            self._failure = EngineFailed(f"the snapshot could not be written: {error.strerror}")
        self._wake()

    def _state(self, index: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
        yield archive.state_head(index)
        for chunk in chunks:
            yield archive.record(chunk)

    def _packed(self, file: BinaryIO, digest: str, size: int, index: int) -> Iterator[bytes]:
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        for plain in self._tar(file, digest, size, index):
            piece = packer.compress(plain)
            if piece:
                yield piece
        yield packer.flush()

    def _tar(self, file: BinaryIO, digest: str, size: int, index: int) -> Iterator[bytes]:
        site, seconds = self._site, int(time.time())
        about = archive.meta(index=index, size=size, node_id=site.node_id, address=f"{site.address}:8300")
        sums = archive.sums(meta_digest=hashlib.sha256(about).hexdigest(), state_digest=digest)
        yield archive.tar_head("meta.json", len(about), seconds=seconds) + about + archive.padding(len(about))
        yield archive.tar_head("state.bin", size, seconds=seconds)
        with file:
            while piece := file.read(_PIECE_SIZE):
                yield piece
        yield archive.padding(size)
        yield archive.tar_head("SHA256SUMS", len(sums), seconds=seconds) + sums + archive.padding(len(sums))
        yield b"\0" * 1_024  # Two empty blocks end a tar.

    def pull(self, reader: Reader) -> Pulled | None:
        """The next piece. Raises what went wrong, which cuts the stream."""
        if self._failure is not None:
            raise self._failure
        if self._pieces is None:
            return None
        piece = next(self._pieces, None)
        if piece is None:
            raise EndOfStream
        self._wake()
        return Pulled(piece)
