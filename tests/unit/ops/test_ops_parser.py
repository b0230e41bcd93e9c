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
