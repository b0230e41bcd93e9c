from __future__ import annotations

import argparse

import pytest

from townhall.model.errors import InvalidField
from townhall.model.instance import ServiceKey
from townhall.ops.target import SERVER_DEFAULT, Target, add_target, print_json


def target(*argv: str, **environ: str) -> Target:
    parser = argparse.ArgumentParser()
    add_target(parser)
    return Target.of(parser.parse_args(argv), environ)


def test_defaults():
    found = target()
    assert (found.server, found.token, found.namespace, found.group, found.json) == (
        SERVER_DEFAULT,
        "",
        "default",
        "default",
        False,
    )


def test_options_win_over_the_environment():
    environ = {"TOWNHALL_SERVER": "http://127.0.0.1:1", "TOWNHALL_TOKEN": "e", "TOWNHALL_NAMESPACE": "e"}
    assert target(**environ)[:3] == ("http://127.0.0.1:1", "e", "e")
    argv = ("--server", "127.0.0.1:2", "--token", "o", "--namespace", "o", "--timeout", "2s", "--json")
    found = target(*argv, **environ)
    assert found[:3] == ("127.0.0.1:2", "o", "o")
    assert (found.timeout_ms, found.json) == (2_000, True)


def test_a_bad_server_in_the_environment_is_named():
    with pytest.raises(InvalidField, match="TOWNHALL_SERVER"):
        target(TOWNHALL_SERVER="ftp://127.0.0.1")


def test_services_may_be_named_whole():
    found = target("--namespace", "blue", "--group", "g")
    assert found.key("web") == ServiceKey("blue", "g", "web")
    assert found.key("red/x/web") == ServiceKey("red", "x", "web")


def test_json_is_indented_or_one_line(capsys):
    print_json({"a": [1]})
    print_json({"a": [1]}, lines=True)
    out = capsys.readouterr().out
    assert out.endswith('}\n{"a":[1]}\n')
    assert '\n  "a": [' in out


def test_options_may_stand_before_and_behind_a_sub_command():
    parser = argparse.ArgumentParser()
    add_target(parser)
    child = parser.add_subparsers(dest="action").add_parser("get")
    add_target(child)
    for argv in (["--json", "get"], ["get", "--json"]):
        assert Target.of(parser.parse_args(argv), {}).json
