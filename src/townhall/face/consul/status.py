"""``/v1/status``: a registry is its own leader and only peer."""

from __future__ import annotations

from collections.abc import Sequence

from townhall.core.queries import Reader
from townhall.face import Request, Route, Verb
from townhall.face.consul.blocking import json_reply
from townhall.face.consul.requests import read_options
from townhall.face.consul.site import SERVER_PORT, Site, Sited

__all__ = ["Status", "routes", "server_address"]


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    status = Status(face.site)
    return (Route("GET", "/v1/status/leader", status.leader), Route("GET", "/v1/status/peers", status.peers))


def server_address(site: Site) -> str:
    """Where a Consul server would listen for its peers; clients only look whether it is empty."""
    host = f"[{site.address}]" if ":" in site.address else site.address
    return f"{host}:{SERVER_PORT}"


class Status:
    """Handlers of the status."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def leader(self, request: Request, reader: Reader) -> Verb:
        """Who leads: always somebody, since a follower answers from its own state."""
        return json_reply(reader, read_options(request, self._site), server_address(self._site))

    def peers(self, request: Request, reader: Reader) -> Verb:
        """Who takes part."""
        return json_reply(reader, read_options(request, self._site), [server_address(self._site)])
