"""The error tree: stable codes, typed details, and a docstring that shows the tree as it is."""

from __future__ import annotations

import inspect

from townhall.model import errors


def tree(root: type[errors.TownhallError]) -> list[type[errors.TownhallError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in tree(child))]


def test_codes_are_unique_and_every_class_is_public() -> None:
    classes = [cls for cls in tree(errors.TownhallError) if cls.__module__ == errors.__name__]
    codes = [cls.code for cls in classes]
    assert len(set(codes)) == len(codes)
    assert {cls.__name__ for cls in classes} == set(errors.__all__)


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    drawn = inspect.getdoc(errors) or ""
    for name in errors.__all__:
        assert name in drawn, f"{name} is missing from the picture"


def test_what_was_wrong_and_what_to_do() -> None:
    error = errors.InvalidField("port", "0 is not between 1 and 65535", advice="choose a port")
    assert (error.code, error.fields, error.advice) == ("invalid_field", {"field": "port"}, "choose a port")
    assert str(error) == "port: 0 is not between 1 and 65535 (choose a port)"
    assert str(errors.NotFound("no service 'web'")) == "no service 'web'"
    assert errors.UnknownField("prot").fields == {"field": "prot"}
    assert errors.Compacted("too old", oldest=7).fields["oldest"] == 7
