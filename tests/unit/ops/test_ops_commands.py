"""The parts of commands that need no registry; tests/integration/test_cli.py runs the commands themselves."""

from __future__ import annotations

import argparse
import resource

import pytest

from townhall.client.records import Drain
from townhall.model.errors import AlreadyExists, EngineFailed
from townhall.ops import loops
from townhall.ops.commands import backup, catalogue, damage, keys, register, status, token, up


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "service:write:default/default/web*",
            {"resource": "service", "level": "write", "name": "default/default/web", "prefix": True},
        ),
        ("key:read:native/config", {"resource": "key", "level": "read", "name": "native/config", "prefix": False}),
        ("operator:deny:", {"resource": "operator", "level": "deny", "name": "", "prefix": True}),
        ("agent:read", {"resource": "agent", "level": "read", "name": "", "prefix": True}),
        ("key:write:a:b*", {"resource": "key", "level": "write", "name": "a:b", "prefix": True}),
    ],
)
def test_rules_of_policies(text, expected):
    assert token.rule(text) == expected


@pytest.mark.parametrize("text", ["", "service", "moon:read:x", "service:maybe:x"])
def test_bad_rules(text):
    with pytest.raises(argparse.ArgumentTypeError, match="RESOURCE:LEVEL:NAME"):
        token.rule(text)


@pytest.mark.parametrize("text", ["service:write:web", "key:read:config"])
def test_rules_that_would_match_nothing_say_how_names_are_built(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"would match nothing: a .* is named"):
        token.rule(text)
    assert token.rule("service:read:*")["name"] == ""


def test_expiry_of_tokens():
    assert token._expiry({}, 1_000) == "never"
    assert token._expiry({"expires_at": 1_000}, 1_000) == "expired"
    assert token._expiry({"expires_at": 7_201_000}, 1_000) == "in 2h"


def test_lists_come_bare_or_under_their_name():
    assert token._rows([{"id": 1}], "tokens") == [{"id": 1}]
    assert token._rows({"tokens": [{"id": 1}]}, "tokens") == [{"id": 1}]
    assert token._rows(None, "tokens") == []


def test_named_ports():
    assert register._named_port("admin=9090") == ("admin", 9090)
    for text in ("admin", "admin=x", "admin=70000", "=1"):
        with pytest.raises(argparse.ArgumentTypeError):
            register._named_port(text)


def test_status_is_flattened():
    rows = dict(status._flat("", {"a": {"b": 1, "c": {"d": True}}, "e": [1, 2], "append_buckets": [[1, 2]]}))
    assert rows == {"a.b": "1", "a.c.d": True, "e": [1, 2]}


def test_values_of_keys_are_cut():
    assert keys._short(None) == "(not text)"
    assert keys._short("x" * 60) == "x" * 60
    assert keys._short("x" * 61) == "x" * 59 + "…"


def test_verdicts_say_when_the_floor_holds():
    assert catalogue._verdict("suspect", held=True) == "suspect (held)"
    assert catalogue._verdict("up", held=False) == "up"


def test_a_backup_never_replaces_a_file(tmp_path, capsys):
    file = tmp_path / "there"
    file.write_text("precious")
    assert backup._backup(argparse.Namespace(file=str(file), data=None)) == 1
    with pytest.raises(AlreadyExists):
        backup._backup(argparse.Namespace(file=str(file), data=str(tmp_path)))
    assert file.read_text() == "precious"


def test_a_drain_that_ended_at_its_deadline_says_whom_it_did_not_reach(capsys):
    over = Drain(service="web", id="a", state="complete", subscribers=2, acknowledged=1, waiting_for=("lazy",))
    catalogue._tell_drain(over)
    assert capsys.readouterr().out == (
        "web a: complete, because its deadline has passed; 1 of 2 subscribers know; never heard from lazy\n"
    )
    catalogue._tell_drain(Drain(service="web", id="a", state="complete", subscribers=2, acknowledged=2))
    assert capsys.readouterr().out == "web a: complete; 2 of 2 subscribers know\n"


def test_the_file_limit_is_raised_to_the_hard_one():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        loops.raise_file_limit()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft == hard == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_loop_is_uvloops_when_it_is_there():
    factory = loops.loop_factory()
    if factory is not None:
        loop = factory()
        assert type(loop).__module__ == "uvloop"
        loop.close()


def test_up_takes_every_setting_as_an_option():
    configure, _ = up.COMMANDS["up"]
    parser = argparse.ArgumentParser()
    configure(parser)
    assert vars(parser.parse_args(["--log-level", "debug"]))["log.level"] == "debug"


def test_inspect_and_salvage_need_a_directory(tmp_path):
    for command in ("inspect", "salvage"):
        configure, _ = damage.COMMANDS[command]
        parser = argparse.ArgumentParser()
        configure(parser)
        with pytest.raises(SystemExit):
            parser.parse_args([])
    parser = argparse.ArgumentParser()
    configure, run = damage.COMMANDS["inspect"]
    configure(parser)
    with pytest.raises(EngineFailed):
        run(parser.parse_args(["--data", str(tmp_path / "absent")]))
