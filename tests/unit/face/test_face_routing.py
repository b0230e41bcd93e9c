from __future__ import annotations

import pytest

from townhall.face import Reply, Route
from townhall.face.routing import Router


def route(method: str, pattern: str) -> Route:
    return Route(method, pattern, lambda request, reader: Reply(200))


def found(router: Router, method: str, path: str) -> tuple[str, dict[str, str]]:
    match = router.match(method, tuple(path[1:].split("/")))
    return (match.route.pattern if match.route else "", match.segments)


TABLE = Router(
    [
        route("GET", "/"),
        route("GET", "/services"),
        route("POST", "/services"),
        route("GET", "/services/all"),
        route("GET", "/services/{service}"),
        route("DELETE", "/services/{service}"),
        route("GET", "/services/{service}/instances/{id}"),
        route("GET", "/services/all/special"),
        route("GET", "/keys/{key...}"),
        route("PUT", "/keys/{key...}"),
        route("GET", "/keys/fixed"),
        route("HEAD", "/headed"),
    ]
)


@pytest.mark.parametrize(
    ("path", "pattern", "segments"),
    [
        ("/", "/", {}),
        ("/services", "/services", {}),
        ("/services/all", "/services/all", {}),
        ("/services/web", "/services/{service}", {"service": "web"}),
        ("/services/all/special", "/services/all/special", {}),
        # The literal "all" leads nowhere here, so the search goes back to the capture.
        ("/services/all/instances/7", "/services/{service}/instances/{id}", {"service": "all", "id": "7"}),
        ("/keys/fixed", "/keys/fixed", {}),
        ("/keys/fixed/more", "/keys/{key...}", {"key": "fixed/more"}),
        ("/keys/a//b/", "/keys/{key...}", {"key": "a//b/"}),
        ("/keys/", "/keys/{key...}", {"key": ""}),
        ("/keys", "", {}),
        ("/services/", "", {}),
        ("/services/web/", "", {}),
        ("//services", "", {}),
        ("/SERVICES", "", {}),
        ("/services/a/instances/", "", {}),
    ],
)
def test_the_most_literal_pattern_wins(path: str, pattern: str, segments: dict[str, str]) -> None:
    assert found(TABLE, "GET", path) == (pattern, segments)


def test_a_part_may_hold_an_escaped_slash() -> None:
    match = TABLE.match("GET", ("services", "a/b"))
    assert match.segments == {"service": "a/b"}
    assert TABLE.match("GET", ("services/all",)).route is None


def test_head_is_served_by_get_unless_it_has_its_own_row() -> None:
    assert found(TABLE, "HEAD", "/services") == ("/services", {})
    assert found(TABLE, "HEAD", "/headed") == ("/headed", {})


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/services", ("GET", "HEAD", "OPTIONS", "POST")),
        ("OPTIONS", "/services/web", ("DELETE", "GET", "HEAD", "OPTIONS")),
        ("POST", "/keys/a/b", ("GET", "HEAD", "OPTIONS", "PUT")),
        ("GET", "/headed", ("HEAD", "OPTIONS")),
        ("GET", "/nowhere", ()),
    ],
)
def test_other_methods_are_told(method: str, path: str, allowed: tuple[str, ...]) -> None:
    match = TABLE.match(method, tuple(path[1:].split("/")))
    assert match.route is None
    assert match.allowed == allowed


@pytest.mark.parametrize(
    "patterns",
    [
        ["services"],
        ["/a", "/a"],
        ["/a/{x}", "/a/{y}"],
        ["/a/{x...}/b"],
        ["/a/{x}/{x}"],
        ["/a/{}"],
        ["/{x...}", "/{y...}"],
    ],
)
def test_a_bad_table_is_refused_when_it_is_compiled(patterns: list[str]) -> None:
    with pytest.raises(ValueError, match=r"pattern|part|names|row"):
        Router([route("GET", pattern) for pattern in patterns])
