"""``townhall run`` with real processes: started, hung, failing, stopped, restarted; the registry away and back."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent_programs import Run, instances, run
from free_ports import free_port
from townhall_process import PLAIN_COMMAND, TownhallProcess, environment, running, townhall, until


def test_a_program_is_registered_when_it_answers_and_gone_when_it_is_stopped(registry, tmp_path: Path) -> None:
    with run(
        tmp_path, "run-plain", registry.url, "--tag", "v2", "--meta", "a=b", "--weight", "2", files=["slow"]
    ) as web:
        until(lambda: web.log, what="the program to start")
        assert web.instance() is None, "it does not answer yet"
        web.drop("slow")
        found = web.until_verdict("up")
        assert (found["address"], found["port"], found["tags"]) == ("127.0.0.1", web.port, ["v2"])
        assert (found["metadata"], found["weight"], found["id"]) == ({"a": "b"}, 2, f"run-plain-127.0.0.1-{web.port}")
        web.signal(signal.SIGTERM)
        assert web.wait() == 0, "the program's own code"
        assert web.instance() is None
        assert web.log[-1] == f"signal {signal.SIGTERM:d}"
        assert "registered" in web.said
        assert "deregistered" in web.said


def test_who_does_not_serve_is_taken_out_and_put_back(registry, tmp_path: Path) -> None:
    with run(tmp_path, "run-ill", registry.url) as web:
        before = web.until_verdict("up")
        web.put("status", "500")
        down = web.until_reason(
            f"HTTP GET http://127.0.0.1:{web.port}/: 500 Internal Server Error Output: said 500", verdict="down"
        )
        assert not down["callable"]
        web.drop("status")
        assert web.until_verdict("up")["incarnation"] == before["incarnation"]
        web.signal_child(signal.SIGSTOP)
        web.until_reason("timed out", verdict="down")
        web.signal_child(signal.SIGCONT)
        assert web.until_verdict("up")["incarnation"] == before["incarnation"]


def test_who_dies_is_deregistered_and_the_code_passed_on(registry, tmp_path: Path) -> None:
    with run(tmp_path, "run-dies", registry.url) as web:
        web.until_verdict("up")
        web.signal_child(signal.SIGKILL)
        assert web.wait() == 128 + signal.SIGKILL
        assert web.instance() is None


@pytest.mark.parametrize(("code", "number"), [(0, signal.SIGINT), (7, signal.SIGTERM)])
def test_the_programs_exit_code_is_ours(registry, tmp_path: Path, code: int, number: int) -> None:
    with run(tmp_path, f"run-code-{code}", registry.url) as web:
        web.put("code", str(code))
        web.until_verdict("up")
        web.signal(number)
        assert web.wait() == code
        assert web.log[-1] == f"signal {number}"


def test_other_signals_are_passed_on_and_change_nothing(registry, tmp_path: Path) -> None:
    with run(tmp_path, "run-signals", registry.url) as web:
        web.until_verdict("up")
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
            web.signal(number)
            until(lambda: f"signal {number:d}" in web.log, what=f"signal {number}")  # noqa: B023 - called at once
        assert web.until_verdict("up")


def test_ctrl_z_stops_the_program_too_and_fg_wakes_both(registry, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [
        *PLAIN_COMMAND,
        "run",
        "--name",
        "run-tty",
        "--ttl",
        "1s",
        "--",
        "sh",
        "-c",
        f"echo $$ > {tmp_path}/pid; sleep 99",
    ]
    process = subprocess.Popen(
        command, env=environment({"TOWNHALL_SERVER": registry.url}), stdin=theirs, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: instances(registry.url, "run-tty"), what="the registration")
        pid = tmp_path / "pid"
        child = int(until(lambda: pid.exists() and pid.read_text(), what="the program to say who it is"))
        process.send_signal(signal.SIGTSTP)
        until(lambda: {state(child), state(process.pid)} == {"T"}, what="both to be stopped")
        until(
            lambda: not [i for i in instances(registry.url, "run-tty") if i["callable"]], what="the registry to notice"
        )
        process.send_signal(signal.SIGCONT)
        until(lambda: state(child) != "T", what="the program to wake")
        until(lambda: [i for i in instances(registry.url, "run-tty") if i["callable"]], what="it to be back")
        process.terminate()
        assert process.wait(120) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_a_run_that_is_killed_leaves_its_program_and_the_next_one_finds_the_port_taken(
    registry, tmp_path: Path
) -> None:
    port, pid = free_port(), tmp_path / "pid"
    program = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    options = ["--name", "run-again", "--port", str(port), "--check", "tcp", "--check-interval", "200ms", "--ttl", "5s"]
    command = [*PLAIN_COMMAND, "run", *options, "--", "sh", "-c", f'echo $$ >> {pid}; exec "$@"', "sh", *program]

    def begin() -> subprocess.Popen[bytes]:
        server = environment({"TOWNHALL_SERVER": registry.url})
        return subprocess.Popen(command, env=server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    first = begin()
    try:
        until(lambda: [one for one in instances(registry.url, "run-again") if one["callable"]], what="the registration")
        first.kill()
        first.wait()
        assert state(int(pid.read_text())) != "Z", "it runs on"
        second = begin()
        assert second.wait(120) == 1, "the exit code of a program that did not get its port"
        until(lambda: not instances(registry.url, "run-again"), what="the first one's lease ends")
    finally:
        first.kill()
        first.wait()
        os.kill(int(pid.read_text().split()[0]), signal.SIGKILL)


def test_who_does_not_heed_the_signal_is_killed(registry, tmp_path: Path) -> None:
    options = ("--stop-timeout", "300ms")
    with run(tmp_path, "run-stubborn", registry.url, *options, files=["stubborn"]) as web:
        web.until_verdict("up")
        web.signal(signal.SIGTERM)
        assert web.wait() == 128 + signal.SIGKILL
        assert "is killed" in web.said
        assert web.instance() is None


def test_callers_know_before_the_program_is_signalled(registry, tmp_path: Path) -> None:
    """A subscriber that promised to acknowledge holds the drain; the program serves until it has."""
    command = [
        sys.executable,
        "-c",
        "import asyncio, sys\n"
        "from townhall.client.api import Registry\n"
        "async def main():\n"
        "    async with Registry(sys.argv[1]) as registry:\n"
        "        async with await registry.watch(['run-drain'], subscriber='slow', explicit=True) as stream:\n"
        "            async for event in stream.events():\n"
        "                print(event.name, event.data, flush=True)\n"
        "asyncio.run(main())\n",
        registry.url,
    ]
    with run(tmp_path, "run-drain", registry.url, "--drain", "25s", "--stop-timeout", "10s") as web:
        web.until_verdict("up")
        watcher = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        try:
            assert watcher.stdout is not None
            until(lambda: "ready" in watcher.stdout.readline(), what="the watcher")
            web.signal(signal.SIGTERM)
            web.until_verdict("draining")
            assert not [line for line in web.log if "signal" in line], "callers may still come"
            watcher.kill()  # Who is gone need not be waited for.
            assert web.wait() == 0
            assert web.log[-1] == f"signal {signal.SIGTERM:d}"
            assert "every caller knows" in web.said
            assert web.instance() is None
        finally:
            watcher.kill()
            watcher.communicate()


def test_a_second_signal_ends_the_drain(registry, tmp_path: Path) -> None:
    with run(tmp_path, "run-hurry", registry.url, "--drain", "10m") as web:
        web.until_verdict("up")
        watch = "/api/v1/watch?service=run-hurry&subscriber=deaf&ack=explicit"
        host, _, port = registry.address.partition(":")
        with socket.create_connection((host, int(port))) as deaf:
            deaf.sendall(f"GET {watch} HTTP/1.1\r\nHost: {registry.address}\r\n\r\n".encode())
            assert deaf.recv(100)
            web.signal(signal.SIGTERM)
            web.until_verdict("draining")
            web.signal(signal.SIGTERM)
            assert web.wait() == 0


def test_a_failed_program_is_restarted_and_shown_as_down_meanwhile(registry, tmp_path: Path) -> None:
    with run(tmp_path, "run-restart", registry.url, "--restart") as web:
        web.until_verdict("up")
        first = web.child
        web.put("slow")
        web.signal_child(signal.SIGKILL)
        # A check may have found it gone a moment before.
        web.until_reason("ended with exit code 137", verdict="down")
        until(lambda: web.child != first, what="a new process")
        assert web.until_verdict("down")
        web.drop("slow")
        web.until_verdict("up")
        web.signal(signal.SIGTERM)
        assert web.wait() == 0, "asked to stop, so not started again"
        assert web.instance() is None


def test_restarts_are_given_up(registry, tmp_path: Path) -> None:
    done = townhall(
        "run", "--name", "run-futile", "--restart", "--restart-max", "1", "--", sys.executable, "-c", "raise SystemExit(9)",
        server=registry.url,
    )  # fmt: skip
    assert done.returncode == 9
    assert done.stderr.count("(restart ") == 1
    assert instances(registry.url, "run-futile") == []


def test_a_taken_port_is_the_programs_own_failure(registry, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        serve = "import socketserver, os; socketserver.TCPServer(('127.0.0.1', int(os.environ['PORT'])), None)"
        done = townhall(
            "run", "--name", "run-taken", "--port", port, "--check", "http:/", *("--check-timeout", "300ms"), "--",
            sys.executable, "-c", serve, server=registry.url,
        )  # fmt: skip
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert instances(registry.url, "run-taken") == []


def test_without_a_check_the_process_is_enough(registry) -> None:
    command = [
        *PLAIN_COMMAND,
        "run",
        "--name",
        "run-alive",
        "--port",
        "auto",
        "--json",
        "--",
        "sh",
        "-c",
        "exec sleep $PORT",
    ]
    process = subprocess.Popen(
        command, env=environment({"TOWNHALL_SERVER": registry.url}), stderr=subprocess.PIPE, text=True
    )
    try:
        (found,) = until(lambda: instances(registry.url, "run-alive"), what="the registration")
        assert found["verdict"] == "up"
        assert found["port"] > 0
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert '"event": "registered", "service": "run-alive"' in errors


def test_a_registry_that_is_absent_holds_up_nothing(tmp_path: Path) -> None:
    port = free_port()
    with run(tmp_path, "run-absent", f"http://127.0.0.1:{port}") as web:
        until(lambda: "serving" in web.log, what="the program to serve without a registry")
        until(lambda: "the registry is away" in web.said, what="the warning")
        with running("--dev", "--native", str(port)):
            web.until_verdict("up")
        web.signal(signal.SIGTERM)
        assert web.wait() == 0


def test_a_registry_that_forgot_everything_is_told_again(start, tmp_path: Path) -> None:
    registry: TownhallProcess = start("--dev")
    with run(tmp_path, "run-forgotten", registry.url, "--ttl", "5s") as web:
        web.until_verdict("up")
        web.put("status", "503")
        web.until_verdict("down")
        registry.kill()
        registry.restart()
        # It comes back as it is, never as well for a moment.
        back = until(web.instance, what="the registration")
        assert (back["verdict"], back["callable"]) == ("down", False)
        web.until_reason("503", verdict="down")
        web.drop("status")
        web.until_verdict("up")
        registry.kill()
        web.signal(signal.SIGTERM)
        assert web.wait() == 0
        assert f"signal {signal.SIGTERM:d}" in web.log


def test_what_a_program_leaves_behind_goes_with_it(registry, tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! > {tmp_path}/left; exit 3"
    done = townhall("run", "--name", "run-left", "--", "sh", "-c", script, server=registry.url)
    assert done.returncode == 3
    left = int((tmp_path / "left").read_text())
    until(lambda: not alive(left), what="the rest of the group to end")


def test_orphans_are_reaped_as_process_1_does(registry, tmp_path: Path) -> None:
    # setsid takes the orphan out of the program's group; it becomes the child of our first process.
    script = f"(setsid sh -c 'echo $$ > {tmp_path}/orphan; sleep 0.2' &); exec sleep 1000"
    command = [*PLAIN_COMMAND, "run", "--name", "run-init", "--init", "--", "sh", "-c", script]
    process = subprocess.Popen(command, env=environment({"TOWNHALL_SERVER": registry.url}), stderr=subprocess.DEVNULL)
    try:
        until(lambda: instances(registry.url, "run-init"), what="the registration")
        orphan = int(
            until(lambda: (tmp_path / "orphan").exists() and (tmp_path / "orphan").read_text(), what="the orphan")
        )
        until(lambda: not Path(f"/proc/{orphan}").exists(), what="the orphan to be reaped")
        process.terminate()
        assert process.wait(120) == 128 + signal.SIGTERM
        assert instances(registry.url, "run-init") == []
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--name", "x"), 2, "needs a command"),
        (("--name", "x", "--check", "http:/", "--", "true"), 2, "needs the service's port"),
        (("--name", "x", "--port", "1", "--check", "ftp:/", "--", "true"), 2, "is no check"),
        (("--name", "x", "--port", "0", "--", "true"), 2, "1 to 65535"),
        (("--name", "x", "--address", "a b", "--", "true"), 2, "address"),
        (("--name", "x", "--", "/nowhere/to/be/found"), 127, "No such file"),
        (("--name", "x", "--", "/"), 126, "Permission denied"),
    ],
)
def test_what_cannot_be_run(registry, options: tuple[str, ...], code: int, text: str) -> None:
    done = townhall("run", *options, server=registry.url)
    assert done.returncode == code, done.stderr
    assert text in done.stderr


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that its parent has not reaped yet is dead all the same.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_run_is_what_its_name_says(registry, tmp_path: Path) -> None:
    """Two runs of one service are two instances; the session shows who looks after them."""
    with run(tmp_path / "a", "run-two", registry.url) as one, run(tmp_path / "b", "run-two", registry.url) as two:
        assert isinstance(one, Run)
        found = until(
            lambda: (
                len([i for i in instances(registry.url, "run-two") if i["callable"]]) == 2
                and instances(registry.url, "run-two")
            ),
            what="both",
        )
        assert {instance["port"] for instance in found} == {one.port, two.port}
