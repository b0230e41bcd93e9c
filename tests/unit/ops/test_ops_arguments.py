from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from townhall.ops import arguments


@pytest.mark.parametrize(
    ("text", "expected"), [("500ms", 500), ("10s", 10_000), ("1.5s", 1_500), ("5m", 300_000), ("1h", 3_600_000)]
)
def test_durations(text, expected):
    assert arguments.duration_ms(text) == expected


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1d", "1 s x", "nan"])
def test_bad_durations(text):
    with pytest.raises(ArgumentTypeError, match="duration"):
        arguments.duration_ms(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:80", ("127.0.0.1", 80)), ("[::1]:80", ("::1", 80)), ("host.example:65535", ("host.example", 65535))],
)
def test_addresses(text, expected):
    assert arguments.address_port(text) == expected


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", ":80", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:0", "a b:80", "127.0.0.1:\u0661", "127.0.0.1:-1"],
)
def test_bad_addresses(text):
    with pytest.raises(ArgumentTypeError):
        arguments.address_port(text)


def test_pairs():
    assert arguments.pair("a=b=c") == ("a", "b=c")
    assert arguments.pair("a=") == ("a", "")
    for text in ("a", "=b", ""):
        with pytest.raises(ArgumentTypeError):
            arguments.pair(text)


def test_names():
    assert arguments.service("web") == "web"
    assert arguments.service("blue/group/web") == "blue/group/web"
    assert arguments.instance_id("web-1") == "web-1"
    assert arguments.tag("v2") == "v2"
    for check, text in (
        (arguments.service, "we b"),
        (arguments.service, "a/b"),
        (arguments.service, "-x/y/z"),
        (arguments.instance_id, ""),
        (arguments.tag, ""),
    ):
        with pytest.raises(ArgumentTypeError):
            check(text)


def test_weights():
    assert arguments.weight("2.5") == 2.5
    for text in ("nan", "inf", "-1", "70000", "x", ""):
        with pytest.raises(ArgumentTypeError):
            arguments.weight(text)
