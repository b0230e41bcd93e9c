"""Flask and Django under gunicorn with several workers: registered once by the master, and stopped under load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator

import pytest
from serving_processes import (
    EXAMPLES,
    ServiceProcess,
    consumer,
    post_http,
    slow_http,
    stops_without_a_loss,
    until,
)

from free_ports import free_port
from townhall_process import TownhallProcess

FRAMEWORKS = ("flask", "django")


@contextlib.contextmanager
def serving(framework: str, url: str) -> Iterator[ServiceProcess]:
    port = free_port()
    application = f"{framework}_service:app"
    # Its two seconds of patience with a connection that is kept open are over when this process is stopped for as long,
    # and a POST that meets such an end may not be repeated.
    options = ("--config", str(EXAMPLES / "gunicorn_conf.py"), "--keep-alive", "75", "--chdir", str(EXAMPLES))
    command = ("-m", "gunicorn", *options, application)
    env = {"REGISTRY": url, "PORT": str(port), "SERVICE": f"hello-{framework}"}
    with ServiceProcess(command, port, env) as process:
        yield process


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_stop_loses_no_request(registry: TownhallProcess, framework: str) -> None:
    async def main() -> None:
        async with consumer(registry.url) as found:
            await stops_without_a_loss(found[f"hello-{framework}"], post_http, slow_http, (first, second))

    with serving(framework, registry.url) as first, serving(framework, registry.url) as second:
        asyncio.run(asyncio.wait_for(main(), 300))


def test_one_registration_survives_its_workers_and_ends_with_the_master(registry: TownhallProcess) -> None:
    async def main() -> None:
        async with consumer(registry.url) as found:
            handle = found["hello-flask"]
            await handle.wait_callable(budget_s=120)
            (instance,) = handle.instances()
            assert instance.port == process.port
            # The master is registered before it has forked the last of them.
            await until(lambda: len(children(process.process.pid)) == 2, "both workers")
            workers = children(process.process.pid)
            os.kill(workers[0], signal.SIGKILL)
            await until(
                lambda: len(children(process.process.pid)) == 2 and workers[0] not in children(process.process.pid),
                "a new worker",
            )
            assert (await handle.get("/")).status == 200
            (again,) = handle.instances()
            assert again.incarnation == instance.incarnation
            process.process.kill()
            # The session of the master breaks with it, although its workers were forked with the master's sockets.
            await until(lambda: not handle.instances(callable_only=True), "no longer called")

    with serving("flask", registry.url) as process:
        asyncio.run(asyncio.wait_for(main(), 300))


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as listed:
        return [int(one) for one in listed.read().split()]
