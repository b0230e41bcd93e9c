from __future__ import annotations

from townhall.ops import exits


def test_codes_are_those_of_the_contract():
    assert (exits.FAILED, exits.USAGE, exits.UNREACHABLE, exits.NOT_FOUND) == (1, 2, 3, 4)


def test_complain_writes_one_line_and_hands_the_code_on(capsys):
    assert exits.complain("no such thing", exits.NOT_FOUND) == 4
    assert capsys.readouterr().err == "townhall: no such thing\n"
