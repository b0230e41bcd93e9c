"""The SDK in programs that fork, or run one event loop after the other, as they are written: nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from townhall_process import environment, running

BEGIN = """
import asyncio, multiprocessing, os, sys, threading
import townhall
URL = sys.argv[1]
blocking = townhall.blocking
with blocking.Registry(URL) as registry:
    host, _, port = URL.removeprefix("http://").rpartition(":")
    # The registry serves HTTP, too.
    registry.register(townhall.client.records.Registration(
        service="web", id="one", address=host, port=int(port), persistent=True))
PATH = "/api/v1/status"

def forked(function):
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException as error:
            print("the child raised", type(error).__name__, error)
            sys.stdout.flush()
            os._exit(1)
        # An ordinary end, at which everything is taken apart.
        sys.exit(0)
    print("child", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""

FORKED_AFTER_USE = """
consumer, registry = blocking.Consumer(URL, snapshot_directory=None), blocking.Registry(URL)
web = consumer["web"]
print(web.get(PATH).status, registry.status()["position"] > 0, web.pick().id)

def child():
    print(web.pick().id, web.get(PATH).status, web.call(lambda one: one.id), registry.status()["position"] > 0)
    sys.stdout.flush()

forked(child)
print(web.get(PATH).status, registry.status()["position"] > 0, web.stale)
blocking.close()
print(web.get(PATH).status, registry.status()["position"] > 0)
"""

FORKED_BEFORE_USE = """
consumer = blocking.Consumer(URL, snapshot_directory=None)
forked(lambda: print(consumer["web"].get(PATH).status, flush=True))
"""

A_PROVIDER_STAYS_THE_PARENTS = """
provider = blocking.Provider(URL, service="mine", port=1, address="127.0.0.1")
provider.start()

def child():
    provider.stop()
    try:
        provider.update(weight=2.0)
    except townhall.errors.Misuse as error:
        print(error.advice, flush=True)

forked(child)
provider.update(weight=3.0)
print(blocking.Registry(URL).instances("mine").instances[0].weight)
provider.stop()
"""

ONE_LOOP_AFTER_THE_OTHER = """
consumer = townhall.Consumer(URL, snapshot_directory=None)
registry = townhall.Registry(URL)

async def ask():
    web = consumer["web"]
    seen = asyncio.Event()
    web.on_change(lambda change: seen.set())
    response = await web.get(PATH)
    offering = web.with_interface("GET /none")
    await offering.start()
    await registry.patch("web", "one", metadata={"a": str(id(seen))})
    await seen.wait()
    print(response.status, offering.pick().id, web.stale)

asyncio.run(ask())
asyncio.run(ask())

async def elsewhere(web):
    try:
        await web.get(PATH)
    except townhall.errors.Misuse as error:
        print(error.advice)

async def two():
    await ask()
    thread = threading.Thread(target=lambda: asyncio.run(elsewhere(consumer["web"])))
    thread.start()
    await asyncio.to_thread(thread.join)
    await consumer.close()
    try:
        await consumer["other"].start()
    except townhall.errors.Misuse as error:
        print(error.advice)

asyncio.run(two())
asyncio.run(consumer.close())
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running("--dev") as process:
        yield process.url


def run(program: str, url: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(program), url],
        env=environment(None),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")


@forking
def test_a_used_consumer_goes_on_in_parent_and_child(url: str) -> None:
    assert run(FORKED_AFTER_USE, url) == [
        "200 True one",
        "one 200 one True",
        "child 0",
        "200 True False",
        "200 True",
    ]


@forking
def test_a_consumer_that_was_made_before_the_fork_works_after_it(url: str) -> None:
    assert run(FORKED_BEFORE_USE, url) == ["200", "child 0"]


@forking
def test_a_provider_stays_the_parents(url: str) -> None:
    assert run(A_PROVIDER_STAYS_THE_PARENTS, url) == ["make it after the fork", "child 0", "3.0"]


def test_one_loop_after_the_other(url: str) -> None:
    again = "200 one False"
    assert run(ONE_LOOP_AFTER_THE_OTHER, url) == [again, again, again, "make one for each loop", "make another one"]
