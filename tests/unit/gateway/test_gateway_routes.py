from __future__ import annotations

import pytest

from townhall.gateway.requests import RequestHead, RequestHeads
from townhall.gateway.routes import Route, RouteTable, rewritten
from townhall.model.errors import InvalidField

HEADS = RequestHeads(target_size_max=10_000, dot_segments=True)


def head(path: str, host: str = "x", *fields: str, method: str = "GET") -> RequestHead:
    return HEADS.read("\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode())


def table(*routes: dict[str, object]) -> RouteTable:
    return RouteTable([Route(**{"name": str(number), "service": "s", **row}) for number, row in enumerate(routes)])


def names(found: RouteTable, *heads: RequestHead) -> list[str | None]:
    matches = [found.match(one) for one in heads]
    return [one.name if one is not None else None for one in matches]


def test_prefixes_end_where_segments_end() -> None:
    found = table({"path": "/users"}, {"path": "/users/admin/"})
    paths = [
        "/users",
        "/users/",
        "/users/1?x=/b",
        "/users2",
        "/",
        "/users/admin",
        "/users/admin/1",
        "/users/administrator",
    ]
    assert names(found, *[head(one) for one in paths]) == ["0", "0", "0", None, None, "1", "1", "0"]


def test_paths_are_compared_as_they_came() -> None:
    found = table({"path": "/a"}, {"path": "/"})
    paths = ["/%61", "//a", "/A", "/a/../b", "/a%2fb", "/a//b"]
    assert names(found, *[head(one) for one in paths]) == ["1", "1", "1", "0", "1", "0"]


def test_the_most_specific_host_wins_and_falls_through() -> None:
    found = table(
        {"path": "/a"},
        {"host": "*.example.org", "path": "/a"},
        {"host": "api.example.org", "path": "/a"},
        {"host": "*.deep.example.org", "path": "/"},
        {"path": "/"},
    )
    hosts = [
        "api.example.org",
        "API.Example.org:80",
        "other.example.org",
        "a.deep.example.org",
        "example.org",
        "[::1]:8",
    ]
    assert names(found, *[head("/a", one) for one in hosts]) == ["2", "2", "1", "3", "0", "0"]
    assert names(found, head("/b", "api.example.org"), head("/b", "a.deep.example.org")) == ["4", "3"]


def test_fields_and_methods() -> None:
    found = table(
        {},
        {"headers": {"X-Canary": "yes"}},
        {"headers": {"x-canary": "yes", "x-b": "*"}},
        {"methods": ("POST",)},
    )
    heads = [
        head("/"), head("/", "x", "x-canary: yes"), head("/", "x", "X-CANARY: yes", "X-B:"), head("/", method="POST"),
        head("/", "x", "x-canary: no"),
    ]  # fmt: skip
    assert names(found, *heads) == ["0", "1", "2", "3", "0"]


def test_two_routes_for_the_same_requests_are_a_mistake() -> None:
    with pytest.raises(InvalidField):
        table({"path": "/a"}, {"path": "/a/"})


@pytest.mark.parametrize(
    ("options", "target", "expected"),
    [
        ({}, "/users/1?a=%2F", "/users/1?a=%2F"),
        ({"strip_prefix": True}, "/users/1?a", "/1?a"),
        ({"strip_prefix": True}, "/users", "/"),
        ({"strip_prefix": True}, "/users?a", "/?a"),
        ({"strip_prefix": True}, "/users//1", "//1"),
        ({"replace_prefix": "/v1/"}, "/users/1", "/v1/1"),
        ({"replace_prefix": "/v1"}, "/users", "/v1"),
        ({"replace_prefix": "/"}, "/users/%2e", "/%2e"),
    ],
)
def test_rewriting(options: dict[str, object], target: str, expected: str) -> None:
    route = Route(name="r", service="s", path="/users", **options)
    assert rewritten(route, head(target)) == expected.encode()


def test_the_asterisk_matches_only_all_paths() -> None:
    found = table({"path": "/a"}, {"strip_prefix": True})
    asterisk = head("*", method="OPTIONS")
    assert names(found, asterisk) == ["1"]
    assert rewritten(found.routes[1], asterisk) == b"*"
