"""What may be set about the gateway as a whole; the defaults and their reasons are in ``model.limits``."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from townhall.model import limits

__all__ = ["GatewayOptions"]


class GatewayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Of one gateway. Times are seconds."""

    auto: bool = False
    """Without a route: ``/<service>/…`` and the host ``<service>.service.townhall`` lead to that service."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose X-Forwarded-… and Forwarded fields are believed and passed on."""
    forwarded: bool = False
    """Send RFC 7239's Forwarded as well."""
    via: str = ""
    """What we are called in Via; '' makes a name that no other process has. A request that says it has passed us already
    goes round in circles, so gateways that stand behind each other need different names, and replicas may share one."""
    dot_segments: bool = False
    """Let paths with ``.`` and ``..`` pass, instead of refusing them."""
    http2: bool = True
    """Speak HTTP/2 with clients that begin so (over TLS, those that agree on it)."""
    header_size_max: int = limits.HEADER_SIZE_MAX
    target_size_max: int = limits.TARGET_SIZE_MAX
    connections_max: int = limits.PROXY_CONNECTIONS_MAX
    header_timeout: float = limits.HEADER_TIMEOUT_MS / 1000
    """From a request's first byte to the end of its head; then 408."""
    client_idle: float = limits.PROXY_CLIENT_IDLE_MS / 1000
    linger: float = limits.LINGER_TIMEOUT_MS / 1000
    stop_timeout: float = limits.PROXY_STOP_TIMEOUT_MS / 1000
    """For running requests when the gateway stops."""
    service_wait: float = 5.0
    """How long the first request for a service waits for the registry."""

    def trusts(self) -> Callable[[str], bool]:
        """Tells whether an address is one of ``trusted_proxies``. Raises ``ValueError`` for what is no network."""
        import ipaddress  # noqa: PLC0415 - slow to import, and seldom needed

        networks = [ipaddress.ip_network(one, strict=False) for one in self.trusted_proxies]
        if not networks:
            return lambda _: False

        def trusted(address: str) -> bool:
            try:
                parsed = ipaddress.ip_address(address)
            except ValueError:
                return False
            mapped = getattr(parsed, "ipv4_mapped", None)
            return any((mapped or parsed) in network for network in networks)

        return trusted
