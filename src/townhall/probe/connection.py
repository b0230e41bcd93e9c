"""What the probers over streams share: targets, permitted connections, TLS, and words for failures."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import NamedTuple

from townhall.model import limits
from townhall.model.check import CheckStatus
from townhall.probe import Finding, Ground
from townhall.probe.ranges import permitted_address

__all__ = ["FAILURES", "Target", "Tls", "connected", "failed", "split_target", "why"]

FAILURES = (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError)
"""What dialling and reading may raise; ``ssl.SSLError`` and ``gaierror`` are OSErrors, ``IncompleteReadError`` is EOF."""


class Target(NamedTuple):
    """Where to connect to."""

    host: str
    port: int


class Tls(NamedTuple):
    """How to secure a connection."""

    verify: bool
    server_name: str
    protocols: tuple[str, ...] = ()


def split_target(text: str) -> Target:
    """``host:port`` or ``[address]:port``. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) <= limits.PORT_MAX:
        raise ValueError(f"{text!r} is not host:port")
    return Target(host.removeprefix("[").removesuffix("]"), int(port))


@cache
def tls_context(verify: bool, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """One context for all probes of a kind: making one reads every certificate of the machine."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@asynccontextmanager
async def connected(
    target: Target, ground: Ground, tls: Tls | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a permitted address of the target, closed at the end whatever happens. Raises ``FAILURES``."""
    address = await permitted_address(target.host, ground.ranges)
    reader, writer = await asyncio.open_connection(
        address,
        target.port,
        limit=limits.PROBE_READ_SIZE_MAX,
        ssl=tls_context(tls.verify, tls.protocols) if tls is not None else None,
        server_hostname=(tls.server_name or target.host) if tls is not None else None,
    )
    try:
        yield reader, writer
    finally:
        # Nothing of value can be on its way; a reset spares both sides a lingering socket.
        writer.transport.abort()
        with suppress(*FAILURES):
            await writer.wait_closed()


def why(error: BaseException) -> str:
    """A short word for what went wrong."""
    if isinstance(error, TimeoutError) and not str(error):
        return "timed out"
    if isinstance(error, EOFError):
        return "the connection was closed early"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return str(error) or type(error).__name__


def failed(text: str) -> Finding:
    """A critical finding."""
    return Finding(CheckStatus.CRITICAL, text)
