from __future__ import annotations

import subprocess
import sys

import pytest

from townhall.model.errors import Conflict, LeaseNotFound, NotFound, PeerMisbehaved, Unreachable
from townhall.ops import cli
from townhall.ops.commands import TABLE, Command, load_command


def test_help_names_every_command(capsys):
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {row.name} " in text for row in TABLE)


def test_no_command_is_a_usage_error(capsys):
    assert cli.run([]) == 2
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_command_has_help(row, capsys):
    assert cli.run([row.name, "--help"]) == 0
    assert f"townhall {row.name}" in capsys.readouterr().out
    assert cli.run(["help", row.name]) == 0


@pytest.mark.parametrize(
    ("argv", "needle"),
    [
        (["servics"], "did you mean 'services'?"),
        (["qqqqqqq"], "townhall --help"),
        (["services", "--jsn"], "did you mean --json?"),
        (["instances"], "required: SERVICE"),
        (["register", "web"], "required"),
        (["register", "web", "nonsense"], "ADDR:PORT"),
        (["register", "web", "127.0.0.1:70000"], "port"),
        (["register", "web", "127.0.0.1:1", "--meta", "novalue"], "KEY=VALUE"),
        (["register", "web", "127.0.0.1:1", "--ttl", "soon"], "duration"),
        (["register", "we b", "127.0.0.1:1"], "service"),
        (["kv"], "required"),
        (["kv", "fetch", "k"], "invalid choice"),
        (["lock", "name"], "command"),
        (["token"], "required"),
        (["completion", "tcsh"], "invalid choice"),
        (["config"], "required"),
        (["up", "--native", "off"], "always on"),
        (["up", "--zookeeper"], "the zookeeper face is not in this version"),
        (["up", "--native", "x:y"], "--native"),
        (["up", "--config", "/nonexistent/townhall.toml"], "No such file"),
        (["services", "--server", "ftp://127.0.0.1"], "http"),
        (["services", "--timeout", "never"], "duration"),
    ],
)
def test_usage_errors(argv, needle, capsys, monkeypatch):
    for name in ("TOWNHALL_SERVER", "TOWNHALL_CONFIG", "TOWNHALL_DATA"):
        monkeypatch.delenv(name, raising=False)
    assert cli.run(argv) == 2
    error = capsys.readouterr().err
    assert needle in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unreachable("x"), 3),
        (PeerMisbehaved("x"), 3),
        (NotFound("x"), 4),
        (LeaseNotFound("x"), 4),
        (Conflict("x", advice="wait"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(error, code, monkeypatch, capsys):
    def fail(arguments: object) -> int:
        raise error

    row = TABLE[0]
    monkeypatch.setattr(cli, "load_command", lambda _: Command(lambda parser: None, fail))
    assert cli.run([row.name]) == code
    if code < 100:
        assert capsys.readouterr().err.startswith("townhall: x")


def test_packages_of_the_server_that_are_missing_are_told_with_their_extra(monkeypatch, capsys):
    def fail(arguments: object) -> int:
        raise ModuleNotFoundError("No module named 'httptools.parser'", name="httptools.parser")

    monkeypatch.setattr(cli, "load_command", lambda _: Command(lambda parser: None, fail))
    assert cli.run([TABLE[0].name]) == 1
    assert "(httptools is missing): pip install 'townhall[server]'" in capsys.readouterr().err


def test_client_options_may_stand_before_the_command(monkeypatch):
    seen = []

    def run(arguments) -> int:
        seen.append((arguments.server, arguments.json))
        return 0

    row = next(row for row in TABLE if row.name == "services")
    command = Command(load_command(row).configure, run)
    monkeypatch.setattr(cli, "load_command", lambda _: command)
    assert cli.run(["--server", "http://127.0.0.1:1", "--json", "services"]) == 0
    assert cli.run(["--server=http://127.0.0.1:1", "services", "--json"]) == 0
    assert seen == [("http://127.0.0.1:1", True)] * 2


def test_help_imports_no_server_and_no_asyncio():
    script = "import sys; from townhall.ops import cli; cli.run(['--help']); bad = {'asyncio', 'msgspec', 'townhall.hub', 'townhall.serve'} & set(sys.modules); sys.exit(repr(bad) if bad else 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
