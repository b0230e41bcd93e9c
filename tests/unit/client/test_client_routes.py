"""Which URLs are services."""

from __future__ import annotations

import pytest

from townhall.client.routes import Routes


@pytest.mark.parametrize(
    ("scheme", "host", "port", "service"),
    [
        ("http", "user", None, "user"),
        ("https", "user", None, "user"),
        ("http", "user", 8080, None),
        ("http", "user.internal", None, None),
        ("http", "127.0.0.1", None, None),
        ("http", "::1", None, None),
        ("http", "localhost", None, None),
        ("http", "", None, None),
        ("townhall", "user", None, "user"),
        ("townhall", "a.b", None, "a.b"),
        ("http", "shop", None, "prod/default/Shop"),
    ],
)
def test_bare_words_are_services(scheme: str, host: str, port: int | None, service: str | None) -> None:
    assert Routes(services={"shop": "prod/default/Shop"}).service(scheme, host, port) == service


@pytest.mark.parametrize(
    ("scheme", "host", "service"),
    [
        ("http", "user.svc", "user"),
        ("http", "user", None),
        ("http", ".svc", None),
        ("townhall", "user", "user"),
        ("townhall", "user.svc", "user"),
    ],
)
def test_with_a_suffix_only_hosts_that_end_so(scheme: str, host: str, service: str | None) -> None:
    assert Routes(suffix=".svc").service(scheme, host, None) == service
