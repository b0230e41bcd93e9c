"""``townhall agent`` with real files and processes: services come, fall ill, change and go; the registry forgets."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from agent_programs import QUICK, instances
from townhall_process import PLAIN_COMMAND, TownhallProcess, environment, townhall, until


class Backend(ThreadingHTTPServer):
    """Answers with a status that the test chooses."""

    status = 200


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Backend)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture
def backend() -> Iterator[Backend]:
    server = Backend(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Agent:
    """The command on a directory."""

    def __init__(self, folder: Path, server: str, *options: str) -> None:
        self.folder, self.server = folder, server
        self.errors = (folder.parent / "errors").open("w+")
        self.process = subprocess.Popen(
            [*PLAIN_COMMAND, "agent", "--config", str(folder), *QUICK, *options],
            env=environment({"TOWNHALL_SERVER": server}), stdin=subprocess.DEVNULL, stderr=self.errors,
        )  # fmt: skip

    @property
    def said(self) -> str:
        return (self.folder.parent / "errors").read_text()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(120)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()


@pytest.fixture
def agent(registry: TownhallProcess, tmp_path: Path) -> Iterator[Agent]:
    folder = tmp_path / "services"
    folder.mkdir()
    started = Agent(folder, registry.url)
    yield started
    started.close()


def verdict(server: str, service: str) -> str:
    found = instances(server, service)
    return found[0]["verdict"] if found else ""


def test_files_of_both_kinds_are_followed(agent: Agent, backend: Backend) -> None:
    port = backend.server_port
    (agent.folder / "web.toml").write_text(
        f'[service]\nname = "agent-toml"\nport = {port}\ncheck = "http:/"\ntags = ["a"]\n'
    )
    check = {"http": f"http://127.0.0.1:{port}/health", "interval": "200ms", "timeout": "1s"}
    service = {
        "name": "agent-consul",
        "id": "c1",
        "port": port,
        "meta": {"a": "b"},
        "weights": {"passing": 3},
        "check": check,
    }
    (agent.folder / "web.json").write_text(json.dumps({"service": service}))
    for name in ("agent-toml", "agent-consul"):
        until(lambda: verdict(agent.server, name) == "up", what=f"{name}; {agent.said}")  # noqa: B023 - called at once
    (found,) = instances(agent.server, "agent-consul")
    assert (found["id"], found["metadata"], found["weight"]) == ("c1", {"a": "b"}, 3)
    assert found["lease"] == instances(agent.server, "agent-toml")[0]["lease"], "one lease for all"
    backend.status = 500
    for name in ("agent-toml", "agent-consul"):
        until(lambda: verdict(agent.server, name) == "down", what=f"{name} down")  # noqa: B023
    until(
        lambda: "500 Internal Server Error" in instances(agent.server, "agent-toml")[0]["reason"],
        what="the reason; another look may have come first",
    )
    backend.status = 200
    until(lambda: verdict(agent.server, "agent-toml") == "up", what="recovery")
    (agent.folder / "web.json").unlink()
    until(lambda: not instances(agent.server, "agent-consul"), what="the removal")
    until(lambda: verdict(agent.server, "agent-toml") == "up", what="the other one stays")
    (agent.folder / "web.toml").write_text("[service")
    until(lambda: "its last good version stays in force" in agent.said, what="the complaint")
    assert instances(agent.server, "agent-toml")[0]["tags"] == ["a"]
    (agent.folder / "web.toml").write_text(
        f'[service]\nname = "agent-toml"\nport = {port}\ncheck = "http:/"\ntags = ["b"]\n'
    )
    until(lambda: instances(agent.server, "agent-toml")[0]["tags"] == ["b"], what="the change")
    assert agent.stop() == 0
    assert instances(agent.server, "agent-toml") == []


def test_a_directory_that_vanishes_deregisters_nothing_until_it_is_confirmed(agent: Agent) -> None:
    (agent.folder / "a.toml").write_text('[service]\nname = "agent-mount"\n')
    until(lambda: verdict(agent.server, "agent-mount") == "up", what="the registration")
    agent.folder.rename(agent.folder.with_name("away"))
    until(lambda: "SIGHUP confirms" in agent.said, what="the warning")
    assert verdict(agent.server, "agent-mount") == "up"
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: not instances(agent.server, "agent-mount"), what="the removal")


def test_a_registry_that_forgot_is_told_again(start, tmp_path: Path) -> None:
    registry = start("--dev")
    folder = tmp_path / "services"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.toml").write_text(f'[service]\nname = "many-{number}"\nport = {number + 1}\n')
    agent = Agent(folder, registry.url, "--ttl", "20s", "--keep")
    try:
        for number in range(5):
            until(lambda: verdict(registry.url, f"many-{number}") == "up", what="all")  # noqa: B023
        registry.kill()
        registry.restart()
        for number in range(5):
            until(lambda: verdict(registry.url, f"many-{number}") == "up", what="all again")  # noqa: B023
        assert agent.stop() == 0
        assert instances(registry.url, "many-0"), "--keep leaves it to the lease"
    finally:
        agent.close()


def test_an_agent_that_is_killed_and_started_again_takes_everything_over(start, tmp_path: Path) -> None:
    registry = start("--dev")
    folder = tmp_path / "services"
    folder.mkdir()
    (folder / "one.toml").write_text('[service]\nname = "agent-again"\nport = 1\n')
    (folder / "two.toml").write_text('[service]\nname = "agent-gone"\nport = 2\n')
    first = Agent(folder, registry.url, "--ttl", "5s")
    try:
        for name in ("agent-again", "agent-gone"):
            until(lambda name=name: verdict(registry.url, name) == "up", what=f"{name}; {first.said}")
        (before,) = instances(registry.url, "agent-again")
    finally:
        first.close()
    until(lambda: verdict(registry.url, "agent-again") != "up", what="its session has broken")
    (folder / "two.toml").unlink()
    again = Agent(folder, registry.url, "--ttl", "5s")
    try:
        until(lambda: verdict(registry.url, "agent-again") == "up", what=f"taken over; {again.said}")
        (after,) = instances(registry.url, "agent-again")
        assert (after["id"], after["lease"] != before["lease"]) == (before["id"], True)
        # The first one's lease ends and takes along what was not taken over, and nothing else.
        until(lambda: not instances(registry.url, "agent-gone"), what="the first one's lease ends")
        assert instances(registry.url, "agent-again") == [after]
        assert again.stop() == 0
        assert instances(registry.url, "agent-again") == []
    finally:
        again.close()


def test_the_examples_are_good() -> None:
    examples = Path(__file__).parents[2] / "examples" / "services"
    done = townhall("agent", "--config", str(examples), "--check-config")
    assert (done.returncode, done.stderr) == (0, "townhall: 2 services, nothing is wrong\n")


def test_what_is_wrong_is_told_before_it_matters(tmp_path: Path) -> None:
    good = tmp_path / "good.toml"
    good.write_text('[service]\nname = "a"\nport = 1\ncheck = "tcp"\n')
    done = townhall("agent", "--config", str(good), "--check-config")
    assert (done.returncode, done.stderr) == (0, "townhall: 1 service, nothing is wrong\n")
    bad = tmp_path / "bad.json"
    bad.write_text('{"service": {"name": "a", "check": {"ttl": "15s"}}}')
    done = townhall("agent", "--config", str(tmp_path), "--check-config")
    assert done.returncode == 1
    assert f"{bad}: service.check.ttl: nobody could send the heartbeat" in done.stderr
    script = tmp_path / "script.toml"
    script.write_text('[service]\nname = "a"\ncheck = "script:true"\n')
    assert "--enable-scripts" in townhall("agent", "--config", str(script), "--check-config").stderr
    assert townhall("agent", "--config", str(script), "--enable-scripts", "--check-config").returncode == 0
    for options in (
        (),
        ("--config", "/nowhere"),
        ("--docker", "ftp://x"),
        ("--config", str(good), "--check-interval", "1ms"),
    ):
        assert townhall("agent", *options).returncode == 2
