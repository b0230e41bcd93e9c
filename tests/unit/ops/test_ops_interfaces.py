"""``townhall interfaces``: what is written for people and programs, and revisions by their first characters."""

from __future__ import annotations

import pytest

from townhall.client.interfaces import Interfaces
from townhall.client.records import Instance
from townhall.model.errors import NotFound
from townhall.model.instance import ServiceKey
from townhall.ops.commands import interfaces
from townhall.ops.commands.interfaces import _Revision

OLD, NEW = Interfaces(methods=["a"]), Interfaces(methods=["b"], schemas={"x": {}})


def holders(*names: str) -> tuple[Instance, ...]:
    return tuple(Instance(id=name, service="s", address="127.0.0.1", callable=name != "down") for name in names)


def test_many_holders_are_counted_and_few_named(capsys) -> None:
    rows = [_Revision(OLD.revision, holders("a", "b", "c", "d", "down", "e"), OLD, "")]
    interfaces._tell(ServiceKey("default", "default", "s"), rows)
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:4] == [OLD.revision, "5", "6", "1"]
    assert line.endswith("a,b,c,d,and 2 more")


def test_documents_that_cannot_be_had_say_why(capsys) -> None:
    rows = [_Revision("0" * 32, holders("a"), None, "no key"), _Revision("", holders("b"), None, "they name none")]
    interfaces._tell(ServiceKey("default", "default", "s"), rows)
    out = capsys.readouterr().out
    assert f"{'0' * 32} cannot be had: no key" in out
    assert "they name none" not in out
    assert interfaces._row(rows[0]) == {
        "revision": "0" * 32, "instances": ["a"], "callable": 1, "methods": None, "documents": None, "problem": "no key",
    }  # fmt: skip
    assert interfaces._row(rows[1])["revision"] is None


def test_first_characters_name_a_revision() -> None:
    rows = [
        _Revision(OLD.revision, (), OLD, ""),
        _Revision("f" * 32, (), None, "gone"),
        _Revision("f" * 31 + "0", (), NEW, ""),
        _Revision("", (), None, ""),
    ]
    assert interfaces._one(rows, OLD.revision[:5]) == OLD
    for text, words in (("ff", "2 revisions"), ("zz", "no present"), ("", "no present"), ("f" * 32, "cannot be had")):
        with pytest.raises(NotFound, match=words):
            interfaces._one(rows, text)
