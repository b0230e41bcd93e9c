"""The parts of the Consul face that keep something, over a real core without sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from native_world import World

from townhall.core import Rules
from townhall.face import Reply, Route
from townhall.face.consul import errors
from townhall.face.consul.site import Site, Sited
from townhall.face.routing import Router

SITE = Site(node="n1", datacenter="dc1")


class Part:
    """A face of some parts only."""

    name = "consul"
    site = SITE

    def __init__(self, makers: Sequence[Callable[[Sited], Sequence[Route]]]) -> None:
        self.routes = [route for maker in makers for route in maker(self)]

    def credentials(self, headers: Mapping[str, str], query: Mapping[str, Sequence[str]]) -> str:
        return headers.get("x-consul-token", "")

    def error(self, error: Any, request: Any) -> Reply:
        return errors.reply(error)

    def no_route(self, method: str, path: str, allowed: Sequence[str]) -> Reply:
        return errors.method_not_allowed(method, allowed) if allowed else errors.no_such_path(path)


class ConsulWorld(World):
    """Sends requests to the parts; paths are given from the root."""

    def __init__(self, *makers: Callable[[Sited], Sequence[Route]], rules: Rules | None = None) -> None:
        super().__init__(rules)
        self.face = Part(makers)  # type: ignore[assignment]
        self.router = Router(self.face.routes)

    def call(self, method: str, path: str, body: Any = b"", **headers: str) -> Any:
        """An exchange; the answer."""
        return self.send(method, "/" + path, body, **headers)
