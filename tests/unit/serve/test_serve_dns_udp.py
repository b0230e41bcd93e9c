"""The datagram listener: bursts, lost answers, closing."""

from __future__ import annotations

import asyncio
import socket

import pytest
from dns_serving import until

from townhall.model import limits
from townhall.serve.dns_udp import DatagramListener, open_socket


def test_a_burst_is_read_in_turns_and_nothing_after_closing():
    async def run() -> None:
        loop = asyncio.get_running_loop()
        opened = open_socket(socket.AF_INET, ("127.0.0.1", 0))
        taken: list[bytes] = []
        dropped: list[int] = []
        senders = []
        listener = DatagramListener(
            loop, opened, lambda data, sender: (taken.append(data), senders.append(sender)), lambda: dropped.append(1)
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(opened.getsockname())
            count = limits.DNS_BURST_COUNT * 2
            for n in range(count):
                client.send(b"%d" % n)
            await until(lambda: len(taken) == count)
            assert senders[0].address == "127.0.0.1"
            senders[0].send(b"answer")
            client.settimeout(120)
            assert client.recv(100) == b"answer"
        listener.close()
        listener.close()
        senders[0].send(b"late")
        assert dropped == [1]

    asyncio.run(run())


def test_the_receive_buffer_is_asked_for():
    with open_socket(socket.AF_INET, ("127.0.0.1", 0)) as opened:
        got = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        # The kernel cuts it to its own maximum and counts its bookkeeping twice.
        assert 0 < got <= 2 * limits.DNS_RECEIVE_BUFFER_SIZE
        assert not opened.getblocking()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_answer_leaves_from_the_address_that_was_asked(family):
    async def run() -> None:
        opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.setblocking(False)
        try:
            # Every address, but of the loopback device alone.
            opened.setsockopt(socket.SOL_SOCKET, 25, b"lo\0")  # SO_BINDTODEVICE
            opened.bind(("0.0.0.0" if family == socket.AF_INET else "::", 0))
        except OSError:
            opened.close()
            pytest.skip("this system does not let a socket be bound to a device")
        listener = DatagramListener(
            asyncio.get_running_loop(), opened, lambda data, sender: sender.send(data + b"!"), lambda: None
        )
        loop = asyncio.get_running_loop()
        for host in ("127.0.0.1", "127.0.0.77") if family == socket.AF_INET else ("::1",):
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                # A connected socket takes answers from that address alone.
                client.connect((host, opened.getsockname()[1]))
                client.send(b"hello")
                async with asyncio.timeout(120):
                    assert await loop.sock_recv(client, 100) == b"hello!"
        listener.close()

    asyncio.run(run())
