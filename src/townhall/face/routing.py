"""From method and path to a handler: a ``Route`` table, compiled once.

Paths without captures are one dictionary look-up. The others walk a tree of path segments in which a literal part wins
over ``{name}``, and that over ``{name...}``; a dead end goes back to the next best. So of ``/services/{service}``,
``/services/all`` and ``/{rest...}`` the path ``/services/all`` takes the second and ``/other`` the third.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from townhall.face import Route

__all__ = ["Match", "Router"]


class Match(NamedTuple):
    """What a path leads to. ``route`` is None when there is none for this method; ``allowed`` then names the others."""

    route: Route | None
    segments: dict[str, str]
    allowed: tuple[str, ...]
    """Methods that this path takes, with those we answer ourselves (HEAD, OPTIONS); empty for an unknown path."""


class _Leaf(NamedTuple):
    routes: dict[str, Route]
    names: tuple[str, ...]


class _Branch:
    """One segment of the tree: where a literal, a capture or the rest of the path leads on to."""

    __slots__ = ("capture", "leaf", "literals", "rest")

    def __init__(self) -> None:
        self.literals: dict[str, _Branch] = {}
        self.capture: _Branch | None = None
        self.leaf: _Leaf | None = None
        self.rest: _Leaf | None = None


class Router:
    """A compiled route table. Raises ``ValueError`` for a malformed or ambiguous pattern."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Branch()
        self._exact: dict[tuple[str, ...], _Leaf] = {}
        for route in routes:
            self._add(route)

    def match(self, method: str, parts: tuple[str, ...]) -> Match:
        """Find the route for a path, given as what stands between its slashes, each part percent-decoded by itself.

        So an escaped slash belongs to a name. HEAD is served by GET, unless the table has a row for it.
        """
        leaf = self._exact.get(parts)
        if leaf is not None:
            return _choose(leaf, method, ())
        values: list[str] = []
        found = _walk(self._root, parts, 0, values)
        if found is None:
            return Match(None, {}, ())
        return _choose(found, method, values)

    def _add(self, route: Route) -> None:
        if not route.pattern.startswith("/"):
            raise ValueError(f"{route.pattern}: a pattern starts with '/'")
        parts = route.pattern[1:].split("/")
        branch = self._root
        names: list[str] = []
        for index, part in enumerate(parts):
            if part.startswith("{") and part.endswith("...}"):
                if index != len(parts) - 1:
                    raise ValueError(f"{route.pattern}: {part} must be the last part")
                branch.rest = _row(branch.rest, route, (*names, part[1:-4]))
                return
            if part.startswith("{") and part.endswith("}"):
                names.append(part[1:-1])
                branch.capture = branch.capture or _Branch()
                branch = branch.capture
            else:
                branch = branch.literals.setdefault(part, _Branch())
        branch.leaf = _row(branch.leaf, route, tuple(names))
        if not names:
            self._exact[tuple(parts)] = branch.leaf


def _row(leaf: _Leaf | None, route: Route, names: tuple[str, ...]) -> _Leaf:
    if len(set(names)) != len(names) or not all(names):
        raise ValueError(f"{route.pattern}: names of captures must be given and differ")
    leaf = leaf or _Leaf({}, names)
    if leaf.names != names or route.method in leaf.routes:
        raise ValueError(f"{route.method} {route.pattern}: another row has this path already")
    leaf.routes[route.method] = route
    return leaf


def _walk(branch: _Branch, parts: Sequence[str], index: int, values: list[str]) -> _Leaf | None:
    """Depth first, best first; ``values`` holds what was captured on the way. As deep as the deepest pattern only."""
    if index == len(parts):
        return branch.leaf
    part = parts[index]
    literal = branch.literals.get(part)
    if literal is not None:
        found = _walk(literal, parts, index + 1, values)
        if found is not None:
            return found
    if branch.capture is not None and part:
        values.append(part)
        found = _walk(branch.capture, parts, index + 1, values)
        if found is not None:
            return found
        values.pop()
    if branch.rest is not None:
        values.append("/".join(parts[index:]))
        return branch.rest
    return None


def _choose(leaf: _Leaf, method: str, values: Sequence[str]) -> Match:
    route = leaf.routes.get(method)
    if route is None and method == "HEAD":
        route = leaf.routes.get("GET")
    segments = dict(zip(leaf.names, values, strict=True)) if values else {}
    if route is not None:
        return Match(route, segments, ())
    allowed = {*leaf.routes, "OPTIONS"}
    if "GET" in allowed:
        allowed.add("HEAD")
    return Match(None, segments, tuple(sorted(allowed)))
