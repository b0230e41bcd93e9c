"""Which URLs of an HTTP client name a service, and which are ordinary addresses. Pure.

======================================  ================================================================================
``townhall://user/users/1``             always the service ``user``
``http://user/users/1``                 the service ``user``: a host without a dot and without a port, when no suffix is set
``http://user.svc/users/1``             the service ``user`` when the suffix is ``.svc``; then no other http host is one
``https://shop/``                       what ``services={"shop": "prod/default/Shop"}`` says, over TLS
anything else                           goes where it says
======================================  ================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from townhall.model.instance import ServiceKey

__all__ = ["SCHEME", "Routes"]

SCHEME = "townhall"


@dataclass(frozen=True, slots=True)
class Routes:
    """What a client's URLs mean."""

    suffix: str = ""
    """Of the hosts that are services; '' for the hosts that are a bare word."""
    services: Mapping[str, str | ServiceKey] = field(default_factory=dict)
    """Host → service, for names that no host can spell (hosts are in lower case and have no slash)."""

    def service(self, scheme: str, host: str, port: int | None) -> str | ServiceKey | None:
        """The service that a URL names; None for an address. ``port`` is the one that the URL spells out."""
        if host in self.services:
            return self.services[host]
        suffix = self.suffix
        if suffix and host.endswith(suffix) and len(host) > len(suffix):
            return host.removesuffix(suffix)
        if scheme == SCHEME:
            return host
        if suffix or port is not None or "." in host or ":" in host or host == "localhost" or not host:
            return None
        return host
