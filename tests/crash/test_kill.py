"""SIGKILL at random moments: every acknowledged write is there, and every watch resumes without gap or repeat.

Several clients write over their own connections while the server is killed and started again on the same data and
port. Each client keeps a ledger of what was acknowledged, and of what it sent without hearing back (either outcome is
right for that). Ten kills in ``make test``; any number with ``--rounds``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from townhall_process import TownhallProcess, running, until

CLIENTS = 4
PAUSED_TTL_MS = 6_000


class Client(threading.Thread):
    """Writes one thing after the other, as fast as it is answered, until told to stop; reconnects by itself."""

    def __init__(self, address: str, number: int) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.number = number
        self.stopped = threading.Event()
        self.connection: http.client.HTTPConnection | None = None
        self.acknowledged: dict[str, bool] = {}
        """Instance id → whether it must be there."""
        self.doubtful: set[str] = set()
        self.counter = 0
        """The last value of this client's key that was acknowledged."""
        self.counter_sent = 0
        self.revisions: list[int] = []

    def call(self, method: str, path: str, body: object | None = None) -> tuple[int, Any] | None:
        """(status, answer), or None when the outcome is unknown."""
        try:
            if self.connection is None:
                host, _, port = self.address.rpartition(":")
                self.connection = http.client.HTTPConnection(host, int(port), timeout=120)
                self.connection.connect()
        except OSError:
            self.connection = None
            time.sleep(0.02)
            return None
        try:
            encoded = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            self.connection.request(method, path, encoded, {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            return None
        return answer.status, json.loads(content) if content else None

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()

    def run(self) -> None:
        step = 0
        while not self.stopped.is_set():
            step += 1
            if step % 3 == 0:
                self.count()
            elif step % 7 == 0 and self.acknowledged:
                self.remove()
            else:
                self.register(f"c{self.number}-{step}")
        self.close()

    def register(self, name: str) -> None:
        body = {"service": "crash", "id": name, "address": "127.9.0.1", "port": 80, "persistent": True}
        self.doubtful.add(name)
        answer = self.call("POST", "/api/v1/instances", body)
        if answer is not None:
            assert answer[0] == 201, answer
            self.doubtful.discard(name)
            self.acknowledged[name] = True

    def remove(self) -> None:
        name = next((name for name, there in self.acknowledged.items() if there), None)
        if name is None:
            return
        del self.acknowledged[name]
        self.doubtful.add(name)
        answer = self.call("DELETE", f"/api/v1/services/crash/instances/{name}")
        if answer is not None:
            assert answer[0] == 204, answer
            self.doubtful.discard(name)
            self.acknowledged[name] = False

    def count(self) -> None:
        self.counter_sent += 1
        answer = self.call("PUT", f"/api/v1/kv/counter/{self.number}", str(self.counter_sent).encode())
        if answer is not None:
            assert answer[0] == 200, answer
            self.counter = self.counter_sent
            self.revisions.append(answer[1]["revision"])


class Watcher(threading.Thread):
    """Follows a stream of server-sent events through every crash, resuming behind the last event it has."""

    def __init__(self, address: str, path: str) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.path = path
        self.stopped = threading.Event()
        self.last_id = ""
        self.events: list[tuple[str, Any]] = []

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                self.follow()
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)

    def follow(self) -> None:
        host, _, port = self.address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=2)
        try:
            headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
            connection.request("GET", self.path, headers=headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            event: dict[str, str] = {}
            while not self.stopped.is_set():
                line = answer.readline()
                if not line:
                    return
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    event[name] = value
                elif "event" in event:
                    self.events.append((event["event"], json.loads(event["data"])))
                    self.last_id = event.get("id", self.last_id)
                    event = {}
                else:
                    event = {}
        finally:
            connection.close()

    def service_picture(self) -> set[str]:
        """The ids that remain when all events are applied in order."""
        picture: set[str] = set()
        revision = 0
        for name, data in list(self.events):
            if name == "snapshot":
                picture = {instance["id"] for instance in data["instances"]}
            elif name == "delta":
                assert data["revision"] > revision, f"repeated: {data['revision']} after {revision}"
                picture -= set(data["removed"])
                picture |= {instance["id"] for instance in data["changed"]}
            if name in ("snapshot", "delta"):
                assert data["revision"] >= revision, f"backwards: {data['revision']} after {revision}"
                revision = data["revision"]
        return picture

    def key_revisions(self) -> list[int]:
        return [data["mod_revision"] for name, data in list(self.events) if name == "put"]


@contextlib.contextmanager
def asking(server: TownhallProcess) -> Iterator[Client]:
    """A client that is asked by hand."""
    client = Client(server.address, -1)
    try:
        yield client
    finally:
        client.close()


def ask(client: Client, path: str) -> Any:
    answer = until(lambda: client.call("GET", path), what=f"an answer to GET {path}")
    assert answer[0] == 200
    return answer[1]


def register_all(client: Client, service: str, count: int, *, ttl_ms: int) -> list[Any]:
    """At once, so that their leases end together as well; the answers."""
    one = {"service": service, "address": "127.9.0.2", "port": 80, "ttl_ms": ttl_ms}
    answer = client.call(
        "POST", "/api/v1/instances/batch", {"instances": [{**one, "id": f"i{n}"} for n in range(count)]}
    )
    assert answer is not None
    return answer[1]["results"]  # type: ignore[no-any-return]


def verify(asker: Client, clients: list[Client]) -> None:
    """All that was acknowledged is there, and nothing that was never sent."""
    present = {instance["id"] for instance in ask(asker, "/api/v1/services/crash/instances")["instances"]}
    for client in clients:
        for name, there in client.acknowledged.items():
            assert (name in present) == there, f"{name}: acknowledged as {'there' if there else 'gone'}"
        answer = until(lambda c=client: asker.call("GET", f"/api/v1/kv/counter/{c.number}"), what="the counter")
        if client.counter:
            assert client.counter <= int(answer[1]["value"]) <= client.counter_sent
    sent = {name for client in clients for name in (*client.acknowledged, *client.doubtful)}
    assert present <= sent


def kill_and_restart(server: TownhallProcess, rng: random.Random) -> None:
    time.sleep(rng.uniform(0.02, 0.4))
    server.kill()
    server.restart()


def test_nothing_acknowledged_is_lost_and_watches_resume(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    rounds = request.config.getoption("--rounds")
    seed = random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    with running("--data", str(tmp_path / "data")) as server:
        clients = [Client(server.address, number) for number in range(CLIENTS)]
        watchers = [
            Watcher(server.address, "/api/v1/watch?service=crash"),
            Watcher(server.address, "/api/v1/kv?prefix=counter/&watch=1"),
        ]
        for watcher in watchers:
            watcher.start()
        # A watch tells what happens after its first event; what was written before that is not its to tell.
        until(lambda: all(watcher.events for watcher in watchers), what=f"both watches have begun (seed {seed})")
        for client in clients:
            client.start()
        for _ in range(rounds):
            kill_and_restart(server, rng)
        before = [client.counter for client in clients]
        until(
            lambda: all(c.counter > b for c, b in zip(clients, before, strict=True)), what=f"writes go on (seed {seed})"
        )
        for client in clients:
            client.stopped.set()
        for client in clients:
            client.join(60)
        with asking(server) as asker:
            verify(asker, clients)
            present = {instance["id"] for instance in ask(asker, "/api/v1/services/crash/instances")["instances"]}
        services, keys = watchers
        until(lambda: services.service_picture() == present, what=f"the watcher's picture is the truth (seed {seed})")
        acknowledged = {revision for client in clients for revision in client.revisions}
        until(lambda: acknowledged <= set(keys.key_revisions()), what=f"every acknowledged put was seen (seed {seed})")
        seen = keys.key_revisions()
        assert seen == sorted(set(seen)), f"repeated or out of order (seed {seed})"
        assert seen == list(range(seen[0], seen[-1] + 1)), f"a gap (seed {seed})"
        for watcher in watchers:
            watcher.stopped.set()
        for watcher in watchers:
            watcher.join(60)


def test_a_stopped_registry_evicts_nobody(tmp_path: Path) -> None:
    """SIGSTOP for longer than every TTL: the registry must not take its own pause for everybody's death."""
    with running("--data", str(tmp_path / "data")) as server, asking(server) as asker:
        leases = [registered["lease"] for registered in register_all(asker, "paused", 50, ttl_ms=PAUSED_TTL_MS)]
        since = -PAUSED_TTL_MS
        while time.monotonic() - since > PAUSED_TTL_MS / 1000 / 3:
            # Most of the TTL is left when it stops, for us to come back in time afterwards.
            server.signal(signal.SIGCONT)
            since = time.monotonic()
            assert asker.call("POST", "/api/v1/renew", {"leases": leases}) is not None
            server.signal(signal.SIGSTOP)
        time.sleep(PAUSED_TTL_MS / 1000 + 1)
        server.signal(signal.SIGCONT)
        # The owners renew as soon as they are answered again, as any heartbeating client does.
        answer = until(
            lambda: asker.call("POST", "/api/v1/renew", {"leases": leases}), what="an answer after the pause"
        )
        assert answer[1]["unknown"] == []
        listed = ask(asker, "/api/v1/services/paused/instances")["instances"]
        assert [instance["verdict"] for instance in listed] == ["up"] * 50
        assert all(instance["since"] == instance["registered_at"] for instance in listed), (
            "somebody was suspected meanwhile"
        )


def test_half_of_the_instances_silent_at_once_are_held(tmp_path: Path) -> None:
    """All heartbeats of a service stop: half of it may go, the other half is held callable; none is forgotten unasked."""
    with running("--data", str(tmp_path / "data")) as server, asking(server) as asker:
        register_all(asker, "silent", 20, ttl_ms=1000)

        def callables() -> list[dict[str, Any]]:
            return ask(asker, "/api/v1/services/silent/instances?healthy=1")["instances"]  # type: ignore[no-any-return]

        until(lambda: all(i["verdict"] == "suspect" for i in callables()), what="every instance is found silent")
        held = callables()
        assert len(held) == 10
        assert all(instance["held"] and "floor" in instance["reason"] for instance in held)
        record = ask(asker, "/api/v1/services/silent")
        assert record["floor"]["engaged"]
        removed = asker.call("DELETE", f"/api/v1/services/silent/instances/{held[0]['id']}")
        assert removed is not None
        assert removed[0] == 204, "a deliberate removal always passes the floor"


def test_an_old_process_cannot_remove_the_new_one(tmp_path: Path) -> None:
    with running("--data", str(tmp_path / "data")) as server, asking(server) as asker:
        body = {"service": "fenced", "id": "one", "address": "127.9.0.4", "port": 80}
        old = asker.call("POST", "/api/v1/instances", {**body, "claim": "old-process"})
        new = asker.call("POST", "/api/v1/instances", {**body, "claim": "new-process"})
        assert old is not None
        assert new is not None
        assert old[1]["incarnation"] < new[1]["incarnation"]
        for late in (f"incarnation={old[1]['incarnation']}", "claim=old-process"):
            answer = asker.call("DELETE", f"/api/v1/services/fenced/instances/one?{late}")
            assert answer is not None
            assert (answer[0], answer[1]["code"]) == (409, "fenced")
        # The old lease has ended with the old incarnation: renewing it tells the old process, and harms nobody.
        assert asker.call("PUT", f"/api/v1/leases/{old[1]['lease']}")[0] == 404  # type: ignore[index]
        listed = ask(asker, "/api/v1/services/fenced/instances")["instances"]
        assert [i["incarnation"] for i in listed] == [new[1]["incarnation"]]
