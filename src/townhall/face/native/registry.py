"""The registry itself: status, health, metrics, version, and the pages that explain it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from townhall.core.queries import Reader
from townhall.face import Reply, Request, Verb
from townhall.face.native import metrics
from townhall.face.native.access_shapes import VersionView
from townhall.face.native.operations import Operation
from townhall.face.native.rendering import encode, position_header
from townhall.face.native.shapes import FloorView
from townhall.model.access import Level, Resource

__all__ = ["Registry"]

_TEXT = b"text/plain; charset=utf-8"
_HTML = b"text/html; charset=utf-8"
_NAME = "townhall"
_PROTOCOL = "native/1"


class Registry:
    """Handlers about the registry. The document and its page are rendered when they are first asked for."""

    def __init__(
        self, version: str, document: Callable[[], bytes], page: Callable[[], bytes], *, secure: bool = False
    ) -> None:
        self._scheme = "https" if secure else "http"
        self._version = version
        self._document = document
        self._page = page

    def operations(self) -> list[Operation]:
        """The rows of the table. What monitoring and people ask for is at the root as well."""
        tag = "registry"
        both = [
            ("/livez", self.alive, "Whether the process answers", "text/plain", ()),
            ("/readyz", self.ready, "Whether it serves and accepts writes", "text/plain", (503,)),
            ("/metrics", self.metrics, "Metrics for Prometheus", "text/plain", ()),
            ("/openapi.json", self.openapi, "This document", "application/json", ()),
            ("/docs", self.docs, "This document as a page", "text/html", ()),
        ]
        rows = [
            Operation(
                method="GET", path=path, handler=handler, summary=summary, tag=tag, answers={200: kind},
                refusals=refusals, absolute=absolute,
            )
            for absolute in (False, True)
            for path, handler, summary, kind, refusals in both
        ]  # fmt: skip
        return [
            Operation(
                method="GET", path="/status", handler=self.status, summary="Counts, engine, floor, stalls", tag=tag,
                answers={200: dict},
            ),
            Operation(
                method="GET", path="/version", handler=self.version, summary="What this is", tag=tag,
                answers={200: VersionView},
            ),
            *rows,
            Operation(
                method="GET", path="/", handler=self.welcome, summary="How to try it", tag=tag,
                answers={200: "text/plain"}, absolute=True,
            ),
        ]  # fmt: skip

    def status(self, request: Request, reader: Reader) -> Verb:
        """All that the hub counts, with the removal floor over the whole registry."""
        reader.require(Resource.AGENT, Level.READ, "")
        floor = reader.registry_floor()
        shown = {
            "version": self._version,
            **request.live.status(),
            "floor": FloorView(
                ratio=floor.ratio, known=floor.known, callable=floor.callable, silent=floor.silent, held=floor.held,
                engaged=floor.engaged,
            ),
        }  # fmt: skip
        return Reply(200, encode(shown), (position_header(reader.position),))

    def version(self, request: Request, reader: Reader) -> Verb:
        """Name, version, protocol."""
        return Reply(200, encode(VersionView(name=_NAME, version=self._version, protocol=_PROTOCOL)))

    def alive(self, request: Request, reader: Reader) -> Verb:
        """It answered, so it lives."""
        return Reply(200, b"ok\n", (), _TEXT)

    def ready(self, request: Request, reader: Reader) -> Verb:
        """503 with the reason while it does not serve or cannot write."""
        status = request.live.status()
        if status.get("ready") and status.get("engine", "ok") == "ok":
            return Reply(200, b"ok\n", (), _TEXT)
        return Reply(503, f"not ready: {_why(status)}\n".encode("utf-8", "backslashreplace"), (), _TEXT)

    def metrics(self, request: Request, reader: Reader) -> Verb:
        """Prometheus' text."""
        reader.require(Resource.AGENT, Level.READ, "")
        status = {**request.live.status(), "floor": msgspec.structs.asdict(reader.registry_floor())}
        return Reply(200, metrics.exposition(status, version=self._version), (), metrics.CONTENT_TYPE)

    def openapi(self, request: Request, reader: Reader) -> Verb:
        """The OpenAPI document."""
        return Reply(200, self._document())

    def docs(self, request: Request, reader: Reader) -> Verb:
        """The document as a page."""
        return Reply(
            200, self._page(), ((b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),), _HTML
        )

    def welcome(self, request: Request, reader: Reader) -> Verb:
        """A first hint for somebody with curl or a browser."""
        host = request.headers.get("host", "127.0.0.1:7500")
        safe = "".join(character for character in host if character.isalnum() or character in ".-:[]")[:128]
        text = _WELCOME.replace("http://HOST", f"{self._scheme}://{safe}").replace("VERSION", self._version)
        return Reply(200, text.encode(), (), _TEXT)


def _why(status: Mapping[str, object]) -> str:
    engine = status.get("engine", "ok")
    if engine == "full":
        return "the disk is full; reads go on, writes are refused"
    if engine == "failed":
        return f"the journal failed: {status.get('engine_error', '')}"
    return "starting or stopping"


_WELCOME = """Townhall VERSION, a service registry.

Register something (it is gone again after its TTL unless you renew its lease):
  curl -X POST http://HOST/api/v1/instances -d '{"service":"web","address":"127.0.0.1","port":8080,"ttl_ms":60000}'
Find it:
  curl http://HOST/api/v1/services/web/instances
Watch it:
  curl -N 'http://HOST/api/v1/watch?service=web'
Keys:
  curl -X PUT http://HOST/api/v1/kv/greeting -d hello
  curl 'http://HOST/api/v1/kv/greeting?raw'

Everything there is: http://HOST/docs (or /openapi.json). Status: http://HOST/api/v1/status
"""
