"""Locks and keys under concurrent clients of a real process: what they saw is checked for linearizability."""

from __future__ import annotations

import base64
import itertools
import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from test_consul_kv_live import Client

from model.linearizability import FOREVER, LOCK, REGISTER, UNKNOWN, Model, Operation, check
from townhall_process import running

CLIENTS = 4
TURNS = 30


@pytest.fixture(scope="module")
def consul() -> Any:
    with running("--dev", "--consul", "0") as process:
        yield process


class Recorder:
    """Operations of many threads, with when they began and ended."""

    def __init__(self) -> None:
        self.history: list[Operation] = []

    def note(self, name: str, argument: Any, call: Callable[[], Any], client: str = "") -> Any:
        called = time.monotonic()
        try:
            result = call()
        except OSError:
            self.history.append(Operation(called, FOREVER, name, argument, UNKNOWN, client))
            raise
        self.history.append(Operation(called, time.monotonic(), name, argument, result, client))
        return result


def together(works: list[Callable[[], None]]) -> None:
    """Run these at once; a failure of one is a failure."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive()
    assert not failures


def explained(history: list[Operation], model: Model) -> None:
    verdict = check(history, model)
    assert verdict.linearizable, f"after {verdict.placed[-5:]} nothing of {verdict.stuck} can have come"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("default::pytest.PytestUnhandledThreadExceptionWarning")
def test_two_clients_never_hold_one_lock(consul, seed):
    call, key, recorder = Client(consul), f"lock-{uuid.uuid4().hex}", Recorder()
    holders: list[str] = []

    def session() -> str:
        return str(call("PUT", "session/create", {"LockDelay": "0s", "TTL": "3600s"})[1]["ID"])

    def work(number: int) -> None:
        draw, mine = random.Random(seed * 100 + number), session()
        for _ in range(TURNS):
            choice = draw.random()
            if choice < 0.5:
                put = f"kv/{key}?acquire={mine}"
                if recorder.note("acquire", mine, lambda put=put: call("PUT", put, b"me")[1], f"c{number}"):
                    # The lock itself says so: nobody else is inside while we are.
                    if mine not in holders:
                        holders.append(mine)
                    assert holders == [mine]
                    if draw.random() < 0.7:
                        holders.remove(mine)
                        put = f"kv/{key}?release={mine}"
                        assert recorder.note("release", mine, lambda put=put: call("PUT", put, b"")[1], f"c{number}")
            elif choice < 0.6:
                if mine in holders:
                    holders.remove(mine)
                end = f"session/destroy/{mine}"
                recorder.note("end", mine, lambda end=end: call("PUT", end)[1], f"c{number}")
                mine = session()
            else:
                recorder.note("holder", None, lambda: holder(call, key), f"c{number}")

    together([lambda number=number: work(number) for number in range(CLIENTS)])
    explained(recorder.history, LOCK)


def holder(call: Client, key: str) -> str | None:
    status, found, _ = call("GET", f"kv/{key}?consistent")
    return found[0].get("Session") if status == 200 else None


@pytest.mark.parametrize("seed", range(3))
def test_reads_writes_and_swaps_of_a_key_are_one_after_the_other(consul, seed):
    call, key, recorder = Client(consul), f"reg-{uuid.uuid4().hex}", Recorder()
    values = itertools.count(1)
    known: dict[int, int] = {}
    """Which index a value was seen at; a swap names the value it is about by it."""

    def read() -> int | None:
        status, found, _ = call("GET", f"kv/{key}")
        if status != 200:
            return None
        value = int(call_value(found[0]))
        known[value] = found[0]["ModifyIndex"]
        return value

    def work(number: int) -> None:
        draw, seen = random.Random(seed * 100 + number), None
        for _ in range(TURNS):
            choice, new = draw.random(), next(values)
            if choice < 0.4:
                seen = recorder.note("read", None, read, f"c{number}")
            elif choice < 0.6:
                body = b"%d" % new
                recorder.note("write", new, lambda body=body: done(call("PUT", f"kv/{key}", body)), f"c{number}")
            else:
                # Without a value it is about absence: index 0.
                path = f"kv/{key}?cas={known[seen] if seen else 0}"
                body = b"%d" % new
                recorder.note(
                    "cas", (seen, new), lambda path=path, body=body: call("PUT", path, body)[1], f"c{number}"
                )  # fmt: skip

    together([lambda number=number: work(number) for number in range(CLIENTS)])
    # How many of those came in time is chance; one that nobody disturbs does.
    seen, new = recorder.note("read", None, read), next(values)
    path = f"kv/{key}?cas={known[seen] if seen else 0}"
    assert recorder.note("cas", (seen, new), lambda: call("PUT", path, b"%d" % new)[1])
    assert sum(each.name == "cas" and each.result for each in recorder.history) >= 1
    explained(recorder.history, REGISTER)


def call_value(entry: dict[str, Any]) -> bytes:
    return base64.b64decode(entry["Value"])


def done(answer: tuple[int, Any, Any]) -> None:
    assert answer[:2] == (200, True)
