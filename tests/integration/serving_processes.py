"""Services of other frameworks as real processes: started, found, called under load, stopped, and no call lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import townhall
from free_ports import free_port
from townhall.client.connection import parse_origin
from townhall.client.handle import ServiceHandle
from townhall.client.http import HttpClient, Request
from townhall_process import DEADLINE_S, environment

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CALLERS = 4
SLOW_END = b"end"
"""What the last piece of a slow answer is."""
Call = Callable[[ServiceHandle], Awaitable[object]]


@dataclass
class ServiceProcess:
    """One process; what it says goes to a file that a failing test shows."""

    command: Sequence[str]
    port: int
    env: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> ServiceProcess:
        self._errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, *self.command],
            env=environment(self.env),
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        # Gracefully, so that the next test does not meet an instance that nobody has taken back.
        self.process.terminate()
        try:
            self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._errors.close()

    @property
    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    async def stop(self) -> int:
        """SIGTERM and wait; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, DEADLINE_S)


@contextlib.contextmanager
def example(name: str, registry: str) -> Iterator[ServiceProcess]:
    """``examples/NAME REGISTRY PORT``, which serves at that port."""
    port = free_port()
    with ServiceProcess((str(EXAMPLES / name), registry, str(port)), port) as process:
        yield process


@dataclass
class Load:
    """Calls without a pause, by several callers, of which every failure is remembered."""

    handle: ServiceHandle
    call: Call
    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    async def __aenter__(self) -> Load:
        self._stop = asyncio.Event()
        self._tasks = [asyncio.ensure_future(self._go_on()) for _ in range(CALLERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def more(self, count: int, what: str) -> None:
        """Returns when so many calls more have been made."""
        goal = self.done.total() + len(self.failures) + count
        await until(lambda: self.done.total() + len(self.failures) >= goal, what)

    async def _go_on(self) -> None:
        while not self._stop.is_set():
            try:
                answer = await self.call(self.handle)
            except Exception as error:
                self.failures.append(repr(error))
            else:
                self.done[str(answer)] += 1


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {DEADLINE_S} s: {what}") from None


async def stops_without_a_loss(
    handle: ServiceHandle,
    call: Call,
    slow: Callable[[int], AsyncIterator[object]],
    processes: tuple[ServiceProcess, ServiceProcess],
) -> None:
    """Two processes of one service under load: one is stopped while a slow request runs there.

    No call fails, the slow one is answered, the process ends by itself and is gone from the catalogue, and the other
    goes on. ``call`` makes one call that must not be repeated once it was acted on; ``slow`` one that takes a second, at a
    port, and gives something once it certainly runs there.
    """
    first, second = processes
    try:
        await handle.wait_callable(2, budget_s=DEADLINE_S)
        async with Load(handle, call) as load:
            await until(lambda: len(load.done) == 2, "both are called")
            await load.more(50, "calls to both")
            running = slow(first.port)
            await anext(running)
            stopping = asyncio.ensure_future(first.stop())
            assert [piece async for piece in running] == [SLOW_END]
            code = await stopping
            assert code in {0, -signal.SIGTERM}
            await until(lambda: [one.port for one in handle.instances()] == [second.port], "the first one is gone")
            await load.more(50, "calls to the other")
        assert not load.failures, load.failures
    except BaseException as error:
        error.add_note(f"{first.errors}\n---\n{second.errors}")
        raise


async def post_http(handle: ServiceHandle) -> object:
    """``POST /``, which is not repeated once it was acted on: the text that came."""
    answer = await handle.request("POST", "/", timeout=DEADLINE_S)
    assert answer.status == 200, answer.body
    return answer.text


async def slow_http(port: int) -> AsyncIterator[bytes]:
    """``GET /slow?seconds=1``: the pieces of its answer."""
    async with HttpClient() as client:
        request = Request(parse_origin(f"http://127.0.0.1:{port}"), "GET", "/slow?seconds=1", budget_s=DEADLINE_S)
        async with await client.stream(request) as answer:
            assert answer.status == 200
            async for piece in answer.pieces(silence_s=DEADLINE_S):
                yield piece


def consumer(url: str) -> townhall.Consumer:
    # The first answer may find this process stopped.
    return townhall.Consumer(url, snapshot_directory=None, start_timeout=DEADLINE_S)


def wait_callable(url: str, service: str, count: int = 1) -> None:
    """Returns when so many instances may be called."""

    async def wait() -> None:
        async with consumer(url) as found:
            await found[service].wait_callable(count, budget_s=DEADLINE_S)

    asyncio.run(wait())
