"""The addresses of this machine's network interfaces, from the C library's ``getifaddrs`` (Linux, macOS, BSD)."""

from __future__ import annotations

import ctypes
import ctypes.util
import socket
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["InterfaceAddress", "interface_addresses"]


class InterfaceAddress(NamedTuple):
    """One address of one interface."""

    interface: str
    address: str


class _Entry(ctypes.Structure):
    """The beginning of ``struct ifaddrs``: what comes after ``ifa_addr`` is not read."""


_Entry._fields_ = [
    ("next", ctypes.POINTER(_Entry)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
]


def interface_addresses() -> list[InterfaceAddress]:
    """All IPv4 and IPv6 addresses, link-local ones left out: they mean nothing without their interface.

    Raises OSError where the system cannot be asked.
    """
    library = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    if not hasattr(library, "getifaddrs"):
        raise OSError("this system has no getifaddrs")
    head = ctypes.POINTER(_Entry)()
    if library.getifaddrs(ctypes.byref(head)) != 0:
        raise OSError(ctypes.get_errno(), "getifaddrs failed")
    try:
        return list(_walk(head))
    finally:
        library.freeifaddrs(head)


def _walk(entry: Any) -> Iterator[InterfaceAddress]:
    while entry:
        row = entry.contents
        address = _address(row.address)
        if address:
            yield InterfaceAddress(row.name.decode(), address)
        entry = row.next


def _address(pointer: int | None) -> str:
    """The text of a ``sockaddr_in`` or ``sockaddr_in6``; '' for anything else."""
    if not pointer:
        return ""
    head = ctypes.string_at(pointer, 2)
    # BSD's sockaddr begins with its length, then one byte of family; Linux' with two bytes of family.
    family = head[1] if sys.platform != "linux" else int.from_bytes(head, sys.byteorder)
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, ctypes.string_at(pointer + 4, 4))
    if family == socket.AF_INET6:
        raw = ctypes.string_at(pointer + 8, 16)
        # fe80::/10 (RFC 4291 §2.5.6).
        return "" if raw[0] == 0xFE and raw[1] & 0xC0 == 0x80 else socket.inet_ntop(socket.AF_INET6, raw)
    return ""
