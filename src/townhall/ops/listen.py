"""Listener options: ``HOST:PORT``, a bare ``PORT`` (on 127.0.0.1), nothing (the usual port) or ``off``."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple

from townhall.model import limits
from townhall.model.errors import InvalidField

__all__ = ["OFF", "USUAL", "Endpoint", "endpoint", "why_not"]

USUAL: Final = "on"
"""How 'the usual port' is written in a file or the environment; on the command line it is the option without value."""
OFF: Final = "off"
_LOOPBACK: Final = "127.0.0.1"


class Endpoint(NamedTuple):
    """Where a face listens; port 0 takes a free one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoint(value: str, *, usual_port: int, field: str) -> Endpoint | None:
    """Read a listener option; None means off. Raises ``InvalidField`` that names ``field`` and the allowed forms."""
    text = value.strip()
    if text.lower() in (OFF, "false", "no"):
        return None
    if text.lower() in ("", USUAL, "true", "yes"):
        return Endpoint(_LOOPBACK, usual_port)
    host, separator, port_text = text.rpartition(":")
    if not separator:
        host, port_text = _LOOPBACK, text
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise _bad(field, value, "an IPv6 address needs brackets, as in [::1]:7500")
    if not port_text.isascii() or not port_text.isdecimal() or int(port_text) > limits.PORT_MAX:
        raise _bad(field, value, f"a port is a number from 0 (any free one) to {limits.PORT_MAX}")
    return Endpoint(host or "0.0.0.0", int(port_text))  # noqa: S104 - ':7500' means every address, as everywhere


def _bad(field: str, value: str, reason: str) -> InvalidField:
    return InvalidField(field, f"{value!r}: {reason}", advice="use HOST:PORT, PORT, 'on' (the usual port) or 'off'")


_REASONS: Final[Mapping[int, str]] = {
    errno.EADDRINUSE: "the address is in use; stop what listens there, or choose another port (0 takes a free one{or_off})",
    errno.EACCES: "this user may not listen there; choose a port above 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one it has, such as 127.0.0.1",
}


def why_not(error: OSError, face: str = "") -> str:
    """Why nobody can listen there, and what to do; ``face`` is one that the registry does without, too."""
    if isinstance(error, socket.gaierror):
        return "the host name cannot be resolved; use an address such as 127.0.0.1"
    # --dev and --all turn on what nobody asked for by name.
    or_off = "" if face in ("", "native") else f", --{face} off does without"
    return _REASONS.get(error.errno or 0, str(error.strerror or error)).format(or_off=or_off)
