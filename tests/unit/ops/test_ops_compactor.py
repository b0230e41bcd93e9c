from __future__ import annotations

import asyncio

import pytest

from townhall.core.commands import Register
from townhall.engine.file import FileEngine
from townhall.hub.hub import INTERNAL, Hub, HubOptions
from townhall.model.errors import EngineFailed
from townhall.model.instance import ServiceKey
from townhall.ops.compactor import ProcessCompactor, compact, main


async def with_instances(directory, count: int, use) -> object:
    """A hub over ``directory`` with instances registered, while ``use(hub)`` runs."""
    hub = Hub.open(FileEngine(directory), HubOptions())
    await hub.start()
    try:
        for number in range(count):
            done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            key = ServiceKey("default", "default", "web")
            # Persistent, so that none is silent for too long on a slow machine.
            command = Register(key=key, id=f"web-{number}", address="127.0.0.1", port=80, persistent=True)
            hub.submit(command, INTERNAL, done.set_result)
            await done
        return await use(hub)
    finally:
        await hub.stop()


def test_a_process_of_its_own_saves_what_the_journal_says(tmp_path):
    async def use(hub):
        # On a slow machine sweeps may commit while the process reads.
        return hub.state.position, await ProcessCompactor(tmp_path).compact(), hub.state.position

    before, saved, after = asyncio.run(with_instances(tmp_path, 5, use))
    assert 0 < before <= saved <= after

    async def reopened(hub):
        return hub.recovered.snapshot, hub.state.instance_count

    assert asyncio.run(with_instances(tmp_path, 0, reopened)) == (saved, 5)


def test_nothing_new_saves_nothing(tmp_path):
    async def use(hub):
        return compact(tmp_path), compact(tmp_path)

    first, second = asyncio.run(with_instances(tmp_path, 2, use))
    assert first == second


def test_a_directory_without_data_is_an_error(tmp_path):
    with pytest.raises(EngineFailed, match="compactor ended with 1"):
        asyncio.run(ProcessCompactor(tmp_path / "absent").compact())


def test_main_tells_the_error_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("os.nice", lambda by: by)
    assert main([str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_cancelling_ends_the_process(tmp_path):
    async def use(hub):
        task = asyncio.get_running_loop().create_task(ProcessCompactor(tmp_path).compact())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(with_instances(tmp_path, 1, use))
