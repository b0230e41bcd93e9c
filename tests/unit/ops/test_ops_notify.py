from __future__ import annotations

import os
import socket

import pytest

from townhall.ops.notify import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_datagram_reaches_the_manager(tmp_path, abstract):
    name = f"@townhall-test-{os.getpid()}" if abstract else str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(5)
        assert notify({"NOTIFY_SOCKET": name}, READY=1, STATUS="listening")
        assert manager.recv(1000) == b"READY=1\nSTATUS=listening"


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "/nonexistent/socket"}]
)
def test_without_a_manager_nothing_happens(environ):
    assert notify(environ, READY=1) is False
