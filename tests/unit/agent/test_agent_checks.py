from __future__ import annotations

import pytest

from townhall.agent.checks import CHECK_FORMS, check_of, timing_of
from townhall.agent.definitions import Definition, placed
from townhall.client.definitions import Service
from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckKind
from townhall.model.errors import InvalidField

TIMING = timing_of(interval_ms=5_000, timeout_ms=None, failures=2, successes=1)


@pytest.mark.parametrize(
    ("text", "kind", "target"),
    [
        ("http:/health", CheckKind.HTTP, "http://127.0.0.1:80/health"),
        ("http:", CheckKind.HTTP, "http://127.0.0.1:80/"),
        ("https:/a?b=c", CheckKind.HTTP, "https://127.0.0.1:80/a?b=c"),
        ("http://localhost:9/x", CheckKind.HTTP, "http://localhost:9/x"),
        ("tcp", CheckKind.TCP, "127.0.0.1:80"),
        ("tcp:81", CheckKind.TCP, "127.0.0.1:81"),
        ("tcp:localhost:82", CheckKind.TCP, "localhost:82"),
        ("grpc", CheckKind.GRPC, "127.0.0.1:80"),
        ("grpcs:shop", CheckKind.GRPC, "127.0.0.1:80"),
    ],
)
def test_what_a_text_stands_for(text: str, kind: CheckKind, target: str) -> None:
    check = placed(check_of(text, port=80, timing=TIMING), "127.0.0.1")
    assert (check.kind, check.target) == (kind, target)
    assert (check.interval_ms, check.timeout_ms, check.failures_before_critical) == (5_000, 5_000, 2)


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    assert placed(check_of("http:/", port=80, timing=TIMING), "::1").target == "http://[::1]:80/"
    elsewhere = check_of("http://localhost/", port=0, timing=TIMING)
    assert placed(elsewhere, "::1") is elsewhere


def test_grpc_names_its_service() -> None:
    check = check_of("grpcs:shop", port=80, timing=TIMING)
    assert (check.grpc_service, check.tls) == ("shop", True)
    assert not check_of("grpc", port=80, timing=TIMING).tls


def test_scripts_must_be_allowed() -> None:
    with pytest.raises(InvalidField, match="--enable-scripts"):
        check_of("script:true", port=0, timing=TIMING)
    check = check_of("script:/opt/check --name 'a b'", port=0, timing=TIMING, scripts=True)
    assert (check.kind, check.arguments) == (CheckKind.SCRIPT, ("/opt/check", "--name", "a b"))


@pytest.mark.parametrize(
    "text",
    [
        "", "ftp:/", "http:health", "http:/x", "tcp:", "tcp:x", "tcp:0", "tcp:70000", "grpc", "script:", "script:'a",
        "http:/" + "x" * limits.CHECK_TARGET_SIZE_MAX,
    ],
)  # fmt: skip
def test_what_is_no_check(text: str) -> None:
    with pytest.raises(InvalidField):
        check_of(text, port=0, timing=TIMING, scripts=True)
    assert "tcp" in CHECK_FORMS


def test_timing_is_bounded() -> None:
    assert (
        timing_of(interval_ms=60_000, timeout_ms=None, failures=1, successes=1).timeout_ms
        == limits.AGENT_CHECK_TIMEOUT_MS
    )
    for interval_ms, timeout_ms in [
        (limits.AGENT_CHECK_INTERVAL_MIN_MS - 1, None), (1_000, 0), (1_000, limits.CHECK_TIMEOUT_MAX_MS + 1),
    ]:  # fmt: skip
        with pytest.raises(InvalidField):
            timing_of(interval_ms=interval_ms, timeout_ms=timeout_ms, failures=1, successes=1)


def test_the_shortest_wait_for_a_deregistration_counts() -> None:
    checks = {
        "a": CheckDefinition(deregister_after_ms=5),
        "b": CheckDefinition(deregister_after_ms=3),
        "c": CheckDefinition(),
    }
    assert Definition(service=Service(name="web"), checks=checks).deregister_after_ms == 3
    assert Definition(service=Service(name="web"), checks={}).deregister_after_ms == 0
