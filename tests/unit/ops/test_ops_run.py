"""The options of ``townhall run``; tests/integration/test_run.py runs it."""

from __future__ import annotations

import pytest

from townhall.model.check import CheckKind
from townhall.ops.cli import build_parser
from townhall.ops.commands import TABLE, run
from townhall.ops.target import Target

ROW = next(row for row in TABLE if row.name == "run")


def plan(*options: str):
    arguments = build_parser(ROW).parse_args(["--name", "web", *options])
    arguments.trailing = ["true"]
    return run._plan(Target.of(arguments, {}), arguments)


def test_what_options_make():
    made = plan("--port", "8001", "--check", "http:/health", "--drain", "--restart", "--restart-max", "3", "--tag", "a")
    assert made.environ["PORT"] == "8001"
    assert (made.drain_s, made.stop_s) == (30, 30)
    assert (made.restart.when, made.restart.count_max) == ("on-failure", 3)
    (check,) = made.definition.checks.values()
    assert (check.kind, check.interval_ms, check.failures_before_critical) == (CheckKind.HTTP, 5_000, 2)
    assert (made.definition.service.id, made.definition.service.tags) == ("", ("a",))
    assert plan("--drain", "5s", "--restart", "always").drain_s == 5
    assert plan().drain_s == 0


def test_a_free_port_may_be_picked():
    made = plan("--port", "auto")
    assert made.definition.service.port == int(made.environ["PORT"]) > 0


def test_choice_of_an_address():
    arguments = build_parser(ROW).parse_args(["--name", "web", "--interface", "eth0", "--network", "127.0.0.0/8"])
    choice = run.choice_of(arguments)
    assert (choice.address, choice.interface, choice.networks) == ("", "eth0", ("127.0.0.0/8",))


@pytest.mark.parametrize(
    "options", [("--restart", "sometimes"), ("--port", "x"), ("--check-failures", "-1"), ("--id", "")]
)
def test_bad_options(options: tuple[str, ...], capsys):
    with pytest.raises(SystemExit) as ended:
        plan(*options)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("townhall: argument ")
