"""Celery workers as real processes: registered once each, and one of two is stopped under load without losing a task."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from serving_processes import EXAMPLES, ServiceProcess, consumer, until

from townhall.client.handle import ServiceHandle
from townhall_process import TownhallProcess

SERVICE = "hello-celery"


@contextlib.contextmanager
def worker(url: str, broker: Path, pool: str, name: str, *options: str) -> Iterator[ServiceProcess]:
    where = ("-m", "celery", "--workdir", str(EXAMPLES), "-A", "celery_tasks")
    # What workers tell each other over their broker is nothing of ours, and takes seconds at every start and end.
    alone = ("--without-mingle", "--without-gossip", "--without-heartbeat")
    command = (*where, "worker", "-n", f"{name}@{pool}", "-P", pool, "-c", "2", *alone, *options)
    with ServiceProcess(command, 0, {"REGISTRY": url, "BROKER": str(broker)}) as process:
        yield process


class Tasks:
    """Sends tasks, each of which leaves a file that names the process that ran it."""

    def __init__(self, broker: Path, directory: Path) -> None:
        self._app = Celery("sender", broker="filesystem://")
        folder, control = broker / "messages", broker / "control"
        for one in (folder, control, directory):
            one.mkdir(parents=True)
        self._app.conf.broker_transport_options = {
            "data_folder_in": folder,
            "data_folder_out": folder,
            "control_folder": control,
        }
        self._directory = directory
        self.sent: list[Path] = []

    def send(self, count: int, seconds: float) -> None:
        for _ in range(count):
            path = self._directory / str(len(self.sent))
            self._app.send_task("celery_tasks.note", (str(path), seconds))
            self.sent.append(path)

    def done(self) -> bool:
        return all(path.exists() for path in self.sent)


def verdicts(handle: ServiceHandle) -> dict[str, str]:
    return {one.id: str(one.verdict) for one in handle.instances()}


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_a_warm_shutdown_loses_no_task(registry: TownhallProcess, tmp_path: Path, pool: str) -> None:
    tasks = Tasks(tmp_path / "broker", tmp_path / "done")
    leaving, staying = f"first@{pool}", f"second@{pool}"

    async def main(first: ServiceProcess) -> None:
        async with consumer(registry.url) as found:
            handle = found[SERVICE]
            seen: list[str] = []
            handle.on_change(lambda _: seen.append(verdicts(handle).get(leaving, "gone")))
            await handle.wait_callable(2, budget_s=60)
            assert set(verdicts(handle)) == {leaving, staying}, "one for each worker, whatever its pool"
            instance = next(one for one in handle.instances() if one.id == leaving)
            assert instance.metadata["pool"] == pool
            tasks.send(20, 0.02)
            await until(tasks.done, "both take tasks")
            tasks.send(12, 0.5)
            first.process.send_signal(signal.SIGTERM)
            await until(lambda: "draining" in seen, "it drains")
            tasks.send(6, 0.02)
            assert await asyncio.to_thread(first.process.wait, 60) == 0
            await until(lambda: set(verdicts(handle)) == {staying}, "the first one is gone")
            assert seen.index("draining") < seen.index("gone", seen.index("up"))
            tasks.send(6, 0.02)
            await until(tasks.done, "no task is lost")

    broker = tmp_path / "broker"
    with worker(registry.url, broker, pool, "first") as first, worker(registry.url, broker, pool, "second") as second:
        try:
            asyncio.run(asyncio.wait_for(main(first), 240))
        except BaseException as error:
            error.add_note(f"{first.errors}\n---\n{second.errors}")
            raise


def test_children_come_and_go_and_nobody_is_told(registry: TownhallProcess, tmp_path: Path) -> None:
    tasks = Tasks(tmp_path / "broker", tmp_path / "done")

    async def main() -> None:
        async with consumer(registry.url) as found:
            handle = found[SERVICE]
            await handle.wait_callable(budget_s=60)
            (before,) = handle.instances()
            # Every task ends its child, so the next ones are forked beside the thread that sends our heartbeats.
            tasks.send(8, 0.02)
            await until(tasks.done, "tasks are done")
            assert len({path.read_text() for path in tasks.sent}) == 8
            (after,) = handle.instances()
            assert (after.id, after.incarnation, after.revision) == (before.id, before.incarnation, before.revision)
            assert str(after.verdict) == "up"

    with worker(registry.url, tmp_path / "broker", "prefork", "only", "--max-tasks-per-child", "1") as process:
        try:
            asyncio.run(asyncio.wait_for(main(), 240))
        except BaseException as error:
            error.add_note(process.errors)
            raise
