"""systemd's notify protocol (sd_notify(3)): datagrams of ``KEY=VALUE`` lines to the socket in NOTIFY_SOCKET."""

from __future__ import annotations

import socket
from collections.abc import Mapping

__all__ = ["notify"]


def notify(environ: Mapping[str, str], **fields: object) -> bool:
    """Tell the service manager, e.g. ``READY=1``. Does nothing without NOTIFY_SOCKET; False when it was not told."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path or path[0] not in "/@":
        return False
    # A leading '@' stands for the zero byte of Linux' abstract namespace.
    address = "\0" + path[1:] if path[0] == "@" else path
    message = "\n".join(f"{key}={value}" for key, value in fields.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(message.encode(), address)
    except OSError:
        # A manager that is gone must not keep the registry from serving.
        return False
    return True
