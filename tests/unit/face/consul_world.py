"""The whole Consul face over a real core without sockets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from native_world import Answer, World

from townhall.core import Rules
from townhall.face import Park, Reply
from townhall.face.consul import ConsulFace, Site
from townhall.face.routing import Router

SITE = Site(node="n1", datacenter="dc1", version="1.2.3")


class FaceWorld(World):
    """Sends requests to the face; paths are given from the root."""

    def __init__(self, rules: Rules | None = None, site: Site = SITE) -> None:
        super().__init__(rules)
        self.face = ConsulFace(site)  # type: ignore[assignment]
        self.router = Router(self.face.routes)
        self.beats: list[tuple[str, str]] = []

    def check_heartbeat(self, node: str, id: str) -> bool:  # noqa: A002 - the contract's word
        self.beats.append((node, id))
        return True

    def call(self, method: str, path: str, body: Any = b"", **headers: str) -> Answer:
        return self.send(method, "/" + path, body, **headers)

    def get(self, path: str, **headers: str) -> Any:
        answer = self.call("GET", path, **headers)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json

    def put(self, path: str, body: Any = b"", **headers: str) -> Answer:
        answer = self.call("PUT", path, body, **headers)
        assert answer.status == 200, (answer.status, answer.body)
        return answer

    def refused(self, method: str, path: str, body: Any = b"", **headers: str) -> tuple[int, str]:
        answer = self.call(method, path, body, **headers)
        assert answer.status >= 400, answer.body
        return answer.status, answer.body.decode()

    def index(self, path: str) -> int:
        return int(self.call("GET", path).headers["X-Consul-Index"])

    def park(self, path: str) -> Park:
        verb = self.verb("GET", path)
        assert isinstance(verb, Park), verb
        return verb

    def attempt(self, park: Park, *, expired: bool = False) -> Reply | None:
        verb = park.attempt(self.reader(), expired)
        assert verb is None or isinstance(verb, Reply)
        return verb

    # --- short forms

    def service(self, name: str = "web", id: str = "", **fields: Any) -> None:  # noqa: A002
        body = {"Name": name, "ID": id or name, "Address": "127.0.0.9", "Port": 80, **fields}
        self.put("/v1/agent/service/register", body)

    def external(self, node: str = "ext", **fields: Any) -> None:
        self.put("/v1/catalog/register", {"Node": node, "Address": "127.1.0.1", **fields})

    def healthy(self, name: str = "web", query: str = "?passing") -> list[str]:
        return [row["Service"]["ID"] for row in self.get(f"/v1/health/service/{name}{query}")]


def named(rows: Sequence[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]
