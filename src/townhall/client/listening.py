"""Whether a server of this process listens yet: for frameworks that register before they bind their sockets.

uvicorn and aiohttp run an application's own start first and listen afterwards. Registered then, a service would be called
some moments too early; so it is registered as not ready, with ``Listening`` as its health, and the first answer of its
socket makes it ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from townhall.client.callbacks import Callback, call
from townhall.client.provider import Provider, ProviderOptions
from townhall.model import limits

__all__ = ["Listening", "listening_provider"]


class Listening:
    """A ``health`` for ``Provider``: no until one of the addresses takes connections, then what ``health`` says."""

    def __init__(
        self,
        addresses: Callable[[], Sequence[tuple[str, int]]],
        health: Callback | None = None,
    ) -> None:
        self._addresses = addresses
        self._health = health
        self._listens = False

    async def __call__(self) -> object:
        """Raises ConnectionError, with the addresses, while nothing listens."""
        if not self._listens:
            addresses = self._addresses()
            for host, port in addresses:
                if await _answers(host, port):
                    self._listens = True
                    break
            else:
                told = " or ".join(f"{host}:{port}" for host, port in addresses)
                raise ConnectionError(f"nothing listens at {told} yet")
        return await call(self._health)


def listening_provider(urls: str | Sequence[str], options: ProviderOptions) -> Provider:
    """A provider that is registered at once, and ready when its server answers: at the advertised address or on loopback.

    Several services of one process are taken to begin listening together, at the first one's port.
    """
    services = options.get("services", ())
    own_port = options.get("port") or (services[0].port if services else 0)

    def addresses() -> list[tuple[str, int]]:
        hosts = dict.fromkeys((provider.address, "127.0.0.1", "::1"))
        return [(host, own_port) for host in hosts if host]

    health = Listening(addresses, options.get("health"))
    given: ProviderOptions = {**options, "health": health, "register_unready": True}
    provider = Provider(urls, **given)
    return provider


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(limits.CLIENT_LISTEN_PROBE_MS / 1000):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
