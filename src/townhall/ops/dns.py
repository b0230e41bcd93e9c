"""Builds the DNS server from its settings."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from townhall.face.consul.picture import Picture
from townhall.face.consul.query_definitions import dns_ttl_s, find, run
from townhall.face.dns import DnsOptions, Found
from townhall.face.dns.answering import DnsFace
from townhall.model import limits
from townhall.model.errors import InvalidField, Malformed
from townhall.ops.listen import endpoint
from townhall.serve.dns import DnsServer
from townhall.serve.dns_options import DnsServerOptions, Recursor

if TYPE_CHECKING:
    from townhall.core.queries import Reader
    from townhall.face.consul.site import Site
    from townhall.hub.hub import Hub
    from townhall.ops.settings import Names

__all__ = ["PreparedByConsul", "dns_server", "recursors_of", "ttls_of"]

_USUAL_PORT = 53


class PreparedByConsul:
    """The Consul face's prepared queries, as DNS asks for them."""

    def __init__(self, site: Site) -> None:
        self._picture = Picture(site)

    def execute(self, reader: Reader, name: str) -> Found | None:
        """See ``face.dns.PreparedQueries``."""
        found = find(reader, name)
        if found is None:
            return None
        return Found(run(reader, self._picture, found.definition), dns_ttl_s(found.definition))


def dns_server(settings: Names, hub: Hub, site: Site) -> DnsServer:
    """The server, not listening yet. Raises ``InvalidField`` for what can be told only now."""
    options = DnsOptions(
        node=site.node,
        datacenter=site.datacenter,
        address=site.address,
        domain=settings.domain,
        alt_domain=settings.alt_domain,
        only_passing=settings.only_passing,
        node_ttl_s=settings.node_ttl_s,
        service_ttls_s=ttls_of(settings.service_ttls),
        a_record_limit=settings.a_record_limit,
        answers_udp_max=settings.answers_udp_max,
        node_meta_txt=settings.node_meta_txt,
        recursion=bool(settings.recursors.strip()),
    )
    try:
        face = DnsFace(options, PreparedByConsul(site))
    except Malformed as error:
        raise InvalidField("--names-domain", f"not a domain: {error}", advice="use a name such as 'consul'") from error
    server = DnsServerOptions(
        recursors=recursors_of(settings.recursors),
        recursor_timeout_ms=settings.recursor_timeout_ms,
        idle_timeout_ms=settings.idle_timeout_ms,
        rate=settings.rate,
        rate_local=settings.rate_local,
        token=_token(settings.token_file),
    )
    return DnsServer(face, hub, server)


def ttls_of(text: str) -> dict[str, int]:
    """``web=10,api*=5`` as a table. Raises ``InvalidField``."""
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, seconds = part.partition("=")
        if not name or not (seconds.isascii() and seconds.isdecimal()) or int(seconds) > 2_147_483_647:
            raise InvalidField("--names-service-ttls", f"{part!r} is not NAME=SECONDS", advice="as in 'web=10,*=1'")
        found[name.strip().lower()] = int(seconds)
    return found


def recursors_of(text: str) -> tuple[Recursor, ...]:
    """``127.0.0.53,[::1]:5353`` as addresses. Raises ``InvalidField``."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        # An IPv6 address without a port may be written bare.
        bare = f"[{part}]" if part.count(":") > 1 and not part.startswith("[") else part
        ported = bare if bare.rpartition("]")[2].count(":") else f"{bare}:{_USUAL_PORT}"
        where = endpoint(ported, usual_port=_USUAL_PORT, field="--names-recursors")
        try:
            assert where is not None
            ipaddress.ip_address(where.host)
        except ValueError as error:
            raise InvalidField(
                "--names-recursors", f"{part!r} is not an IP address", advice="as in 127.0.0.53:53"
            ) from error
        found.append(Recursor(where.host, where.port))
    if len(found) > limits.DNS_RECURSORS_COUNT_MAX:
        raise InvalidField("--names-recursors", f"{len(found)} servers, at most {limits.DNS_RECURSORS_COUNT_MAX}")
    return tuple(found)


def _token(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidField("--names-token-file", f"{path} cannot be read: {error}") from error
