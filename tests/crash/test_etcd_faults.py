"""What etcd promises of watches, and that its keys are linearizable, while the server is killed and compacts.

The watch guarantees are etcd's own, by name. ``ordered``: events come in the order of their revisions. ``unique``: no
event comes twice. ``atomic``: what one transaction wrote comes whole. ``reliable``: nothing between two events is left
out. ``resumable``: a broken watch goes on from the revision after the last it was told. ``bookmarkable``: progress at a
revision means that everything up to it has been told.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grpc_client import Connection, Refused
from model.linearizability import FOREVER, REGISTER, UNKNOWN, Operation, check_each
from townhall.wire.etcd import kv, watch
from townhall_process import TownhallProcess, running, until

KILLS = 3
WRITES_BETWEEN_KILLS = 60
KEYS = 3


class Client(threading.Thread):
    """Works over a connection of its own, which it makes anew whenever the server goes away, until it is stopped."""

    def __init__(self, server: TownhallProcess, seed: int) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.random = random.Random(seed)
        self.stopped = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                with contextlib.suppress(OSError):
                    self.connected(Connection(self.server.ready["listen"]["etcd"]))
                time.sleep(0.02)
        except BaseException as failure:
            self.failure = failure
            raise

    def connected(self, connection: Connection) -> None:
        with contextlib.closing(connection):
            while not self.stopped.is_set():
                self.turn(connection)

    def turn(self, connection: Connection) -> None:
        """One piece of work."""


class Writer(Client):
    """Writes two keys in each transaction, and remembers what was acknowledged at which revision."""

    def __init__(self, server: TownhallProcess, number: int) -> None:
        super().__init__(server, number)
        self.number = number
        self.count = 0
        self.acknowledged: dict[int, bytes] = {}

    def turn(self, connection: Connection) -> None:
        self.count += 1
        value = b"%d-%d" % (self.number, self.count)
        puts = [kv.PutRequest(b"w/%d/%s" % (self.number, name), value) for name in (b"first", b"second")]
        request = kv.TxnRequest(success=[kv.RequestOp(request_put=put) for put in puts])
        answer = connection.call("/etcdserverpb.KV/Txn", request, kv.TxnResponse)
        assert answer.header is not None
        self.acknowledged[answer.header.revision] = value


class Watcher(Client):
    """Follows all keys from the beginning, through every break; some breaks are its own."""

    def __init__(self, server: TownhallProcess, seed: int, *, restless: bool) -> None:
        super().__init__(server, seed)
        self.restless = restless
        self.events: list[tuple[int, bytes, bytes]] = []
        self.last = 1
        self.resumed = 0
        self.bookmarks: list[tuple[int, int]] = []
        """(how many events had come, the revision that progress told)"""

    def connected(self, connection: Connection) -> None:
        with contextlib.closing(connection):
            stream = connection.open("/etcdserverpb.Watch/Watch")
            create = watch.WatchCreateRequest(b"w/", b"w0", start_revision=self.last + 1)
            connection.send(stream, watch.WatchRequest(create_request=create))
            self.resumed += 1
            messages = 0
            while not self.stopped.is_set():
                answer = connection.take(stream, watch.WatchResponse)
                assert not answer.canceled, answer
                self.note(answer)
                messages += 1
                if messages % 5 == 0:
                    request = watch.WatchRequest(progress_request=watch.WatchProgressRequest())
                    connection.send(stream, request)
                if self.restless and self.random.random() < 0.02:
                    return

    def note(self, answer: watch.WatchResponse) -> None:
        assert answer.header is not None
        if not answer.events and not answer.created:
            self.bookmarks.append((len(self.events), answer.header.revision))
        for event in answer.events:
            assert event.kv is not None
            self.events.append((event.kv.mod_revision, event.kv.key, event.kv.value))
            self.last = event.kv.mod_revision


def check_guarantees(watcher: Watcher, acknowledged: dict[int, bytes]) -> None:
    revisions = [revision for revision, _, _ in watcher.events]
    assert revisions == sorted(revisions), "ordered"
    told = [(revision, key) for revision, key, _ in watcher.events]
    assert len(told) == len(set(told)), "unique"
    whole: dict[int, list[bytes]] = {}
    for revision, _, value in watcher.events:
        whole.setdefault(revision, []).append(value)
    assert all(len(values) == 2 and len(set(values)) == 1 for values in whole.values()), "atomic"
    seen = {revision: values[0] for revision, values in whole.items()}
    lost = {revision: value for revision, value in acknowledged.items() if seen.get(revision) != value}
    assert not lost, "reliable"
    dense = range(min(whole), max(whole) + 1)
    assert sorted(whole) == [*dense], "reliable: no revision is left out"
    # A break that comes before it has connected again is none that it saw.
    assert watcher.resumed > 1, "resumable: it went on after breaks"
    for count, revision in watcher.bookmarks:
        assert all(later > revision for later in revisions[count:]), "bookmarkable"


def ended(clients: list[Any]) -> None:
    for client in clients:
        client.stopped.set()
    for client in clients:
        client.join(120)
        assert client.failure is None, client.failure


def kill_now_and_then(server: TownhallProcess, written: Callable[[], int], between: Callable[[], None]) -> None:
    for _ in range(KILLS):
        before = written()
        until(lambda: written() >= before + WRITES_BETWEEN_KILLS, what="writes go on")  # noqa: B023
        between()
        server.kill()
        server.restart()


def test_watches_keep_their_promises_through_kills_breaks_and_compaction(tmp_path: Path) -> None:
    with running("--data", str(tmp_path), "--etcd", "0") as server:
        writers = [Writer(server, number) for number in range(3)]
        watchers = [Watcher(server, 10, restless=False), Watcher(server, 11, restless=True)]
        clients: list[Any] = [*writers, *watchers]
        for client in clients:
            client.start()

        def compact() -> None:
            # What every watcher has been told already: a watch that is behind it would rightly be cancelled.
            revision = min(watcher.last for watcher in watchers)
            with contextlib.suppress(Refused), contextlib.closing(Connection(server.ready["listen"]["etcd"])) as own:
                own.call("/etcdserverpb.KV/Compact", kv.CompactionRequest(revision), kv.CompactionResponse)

        kill_now_and_then(server, lambda: sum(len(writer.acknowledged) for writer in writers), compact)
        ended(writers)
        last = max(revision for writer in writers for revision in writer.acknowledged)
        until(lambda: all(watcher.last >= last for watcher in watchers), what="the watchers have heard everything")
        # Each is blocked in its next read; a last write lets it see that it is to stop.
        for watcher in watchers:
            watcher.stopped.set()
        final = Writer(server, 99)
        with contextlib.closing(Connection(server.ready["listen"]["etcd"])) as own:
            final.turn(own)
        ended(watchers)
        acknowledged = {revision: value for writer in writers for revision, value in writer.acknowledged.items()}
        for watcher in watchers:
            check_guarantees(watcher, acknowledged)
        assert any(watcher.bookmarks for watcher in watchers)


class Reader(Client):
    """Reads, writes and compare-and-sets a few keys; what it saw is a history."""

    def __init__(self, server: TownhallProcess, number: int) -> None:
        super().__init__(server, number)
        self.number = number
        self.count = 0
        self.history: list[Operation] = []

    def turn(self, connection: Connection) -> None:
        key = f"r/{self.random.randrange(KEYS)}"
        self.count += 1
        value = f"{self.number}-{self.count}"
        name = self.random.choice(("read", "read", "write", "cas"))
        called = time.monotonic()
        argument: Any = None if name == "read" else value
        try:
            if name == "cas":
                argument = (self.read(connection, key), value)
                called = time.monotonic()  # The read of what is expected is no part of the operation.
                result: Any = self.swap(connection, key, *argument)
            else:
                result = self.read(connection, key) if name == "read" else self.write(connection, key, value)
        except OSError:
            if name != "read" and (name == "write" or isinstance(argument, tuple)):
                self.history.append(Operation(called, FOREVER, name, argument, UNKNOWN, key))
            raise
        self.history.append(Operation(called, time.monotonic(), name, argument, result, key))

    @staticmethod
    def read(connection: Connection, key: str) -> str | None:
        answer = connection.call("/etcdserverpb.KV/Range", kv.RangeRequest(key.encode()), kv.RangeResponse)
        return answer.kvs[0].value.decode() if answer.kvs else None

    @staticmethod
    def write(connection: Connection, key: str, value: str) -> None:
        connection.call("/etcdserverpb.KV/Put", kv.PutRequest(key.encode(), value.encode()), kv.PutResponse)

    @staticmethod
    def swap(connection: Connection, key: str, old: str | None, new: str) -> bool:
        name = key.encode()
        absent = kv.Compare(target=kv.CompareTarget.VERSION, key=name, version=0)
        same = kv.Compare(target=kv.CompareTarget.VALUE, key=name, value=(old or "").encode())
        put = kv.RequestOp(request_put=kv.PutRequest(name, new.encode()))
        request = kv.TxnRequest([absent if old is None else same], [put])
        return connection.call("/etcdserverpb.KV/Txn", request, kv.TxnResponse).succeeded


def test_keys_are_linearizable_through_kills(tmp_path: Path) -> None:
    with running("--data", str(tmp_path), "--etcd", "0") as server:
        readers = [Reader(server, number) for number in range(4)]
        for reader in readers:
            reader.start()
        kill_now_and_then(server, lambda: sum(len(reader.history) for reader in readers), lambda: None)
        ended(readers)
    history = [operation for reader in readers for operation in reader.history]
    verdict = check_each(history, REGISTER, lambda operation: operation.client)
    assert verdict.linearizable, verdict.stuck
    lied = [
        operation._replace(result="never written") if operation.name == "read" and operation.result else operation
        for operation in history
    ]
    assert not check_each(lied, REGISTER, lambda operation: operation.client).linearizable, "and the checker would see"
