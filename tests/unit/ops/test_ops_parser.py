from __future__ import annotations

import pytest

from townhall.ops.parser import Parser


def build() -> Parser:
    parser = Parser(prog="townhall x")
    parser.add_argument("--level", choices=("a", "b"))
    children = parser.add_subparsers(dest="action")
    children.add_parser("get").add_argument("--revision", type=int)
    return parser


@pytest.mark.parametrize(
    ("argv", "needle"),
    [
        (["--levle=a", "get"], "did you mean --level?"),
        (["get", "--revison", "1"], "did you mean --revision?"),
        (["--level", "c"], "argument --level: invalid choice"),
        (["--lev=a", "get"], "unrecognized arguments"),
        (["get", "--revision", "x"], "argument --revision"),
        (["--zzzzzzzz"], "unrecognized arguments: --zzzzzzzz ("),
    ],
)
def test_errors_are_one_line_and_exit_2(argv, needle, capsys):
    with pytest.raises(SystemExit) as caught:
        build().parse_args(argv)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert needle in error
    assert error.count("\n") == 1
    assert error.startswith("townhall: ")
    assert "--help' shows" in error


def test_a_command_without_its_dashes_is_recognised(capsys):
    parser = Parser(prog="townhall run")
    parser.add_argument("--name")
    parser.runs_commands = True
    for argv in (["--name", "a", "echo", "hi"], ["--nmae", "a"]):
        with pytest.raises(SystemExit):
            parser.parse_args(argv)
    first, second = capsys.readouterr().err.splitlines()
    assert "unrecognized arguments: echo hi; the command to run stands behind '--' (" in first
    assert "did you mean --name?" in second
