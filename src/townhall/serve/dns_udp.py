"""DNS over UDP: one socket, read in bursts, answers sent at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from townhall.model import limits

__all__ = ["DatagramListener", "Packet", "open_socket"]

Packet = Callable[[bytes, "Sender"], None]
"""Takes what came in, and how to answer it."""

_SIZE = limits.DNS_QUERY_SIZE_MAX + 1
_ANCILLARY_SIZE = 128
_IN_PKTINFO_SIZE = 12


class Sender:
    """One datagram's way back."""

    __slots__ = ("_ancillary", "_listener", "peer")

    def __init__(self, listener: DatagramListener, peer: Any, ancillary: Any) -> None:
        self._listener = listener
        self._ancillary = ancillary
        self.peer = peer

    @property
    def address(self) -> str:
        """The client's address without its port."""
        return str(self.peer[0])

    def send(self, data: bytes) -> None:
        """Send an answer; one that the kernel does not take at once is lost, as datagrams are."""
        self._listener.send(data, self.peer, self._ancillary)


def open_socket(family: int, address: Any) -> socket.socket:
    """A bound UDP socket with a large receive buffer. Raises OSError."""
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        with contextlib.suppress(OSError):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.DNS_RECEIVE_BUFFER_SIZE)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setblocking(False)
        opened.bind(address)
    except BaseException:
        opened.close()
        raise
    return opened


class DatagramListener:
    """Reads a socket until it is closed; at most ``DNS_BURST_COUNT`` datagrams in one turn of the loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, opened: socket.socket, packet: Packet, dropped: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._socket = opened
        self._packet = packet
        self._dropped = dropped
        # Bound to every address, the kernel would choose the source of an answer by its routes, and a client that asked
        # another of our addresses would not take it. So the address that was asked comes with each datagram.
        self._wild = opened.getsockname()[0] in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        if self._wild and opened.family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif self._wild:
            opened.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_PKTINFO", 8), 1)
        loop.add_reader(opened.fileno(), self._readable)

    def close(self) -> None:
        """Stop reading; idempotent."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def send(self, data: bytes, peer: Any, ancillary: Any) -> None:
        """See ``Sender.send``."""
        try:
            if ancillary:
                self._socket.sendmsg((data,), ancillary, 0, peer)
            else:
                self._socket.sendto(data, peer)
        except OSError:
            # The buffer is full, the peer unreachable, or we are closed: nobody waits for an error.
            self._dropped()

    def _readable(self) -> None:
        for _ in range(limits.DNS_BURST_COUNT):
            ancillary: Any = None
            try:
                if self._wild:
                    data, found, _, peer = self._socket.recvmsg(_SIZE, _ANCILLARY_SIZE)
                    ancillary = [_source(item) for item in found if item[1] in _PKTINFO]
                else:
                    data, peer = self._socket.recvfrom(_SIZE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                # An answer could not be delivered (ICMP); it says nothing about the next datagram.
                continue
            self._packet(data, Sender(self, peer, ancillary))
            if self._socket.fileno() < 0:
                return


_PKTINFO = frozenset({getattr(socket, "IP_PKTINFO", 8), getattr(socket, "IPV6_PKTINFO", 50)})


def _source(item: Any) -> Any:
    """The control message of an answer that leaves from the address that was asked."""
    level, type_, data = item
    if level == socket.IPPROTO_IP and len(data) >= _IN_PKTINFO_SIZE:
        # struct in_pktinfo: interface, our address on it, the destination; the source of a sent one is the second.
        return level, type_, b"\0\0\0\0" + data[8:12] + b"\0\0\0\0"
    return level, type_, data
