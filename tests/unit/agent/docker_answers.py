"""Answers of Docker's Engine API, cut to a few fields beside those that are read.

``docker_recorded.json`` holds what an engine (20.10, API 1.41) said of real containers, with addresses of documentation in
the place of its own: ``w1`` plain, ``hc`` with a health check, ``ho`` in the machine's network, ``v6`` published on ::1,
``nn`` in two networks, ``sc`` in the network of ``w1``, ``re`` with Registrator's variables, ``mp`` paused and with many
ports, ``rs`` between two starts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_RECORDED = json.loads((Path(__file__).parent / "docker_recorded.json").read_text())


def recorded(name: str) -> dict[str, Any]:
    """``GET /containers/{id}/json`` as an engine answered it."""
    found: dict[str, Any] = _RECORDED[name]
    return found


def container(
    name: str = "web",
    *,
    labels: dict[str, str] | None = None,
    env: list[str] | None = None,
    ports: dict[str, Any] | None = None,
    **state: Any,
) -> dict[str, Any]:
    """``GET /containers/{id}/json``."""
    published = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}, {"HostIp": "::", "HostPort": "32768"}]}
    ports = published if ports is None else ports
    return {
        "Id": f"id-{name}",
        "Created": "2015-01-06T15:47:31.485331387Z",
        "State": {
            "Status": "running",
            "Running": True,
            "Paused": False,
            "Restarting": False,
            "Dead": False,
            "Pid": 1234,
            **state,
        },
        "Image": "sha256:ec3f0931a6e6b6855d76b2d7b0be30e81860baccd891b2e243280bf1cd8ad710",
        "Name": f"/{name}",
        "RestartCount": 0,
        "HostConfig": {"NetworkMode": "bridge", "Privileged": False},
        "Config": {
            "Hostname": "ba033ac44011",
            "ExposedPorts": {port: {} for port in ports} or None,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin", *(env or [])],
            "Labels": labels,
        },
        "NetworkSettings": {
            "Ports": ports,
            "Networks": {"bridge": {"IPAddress": "192.0.2.2", "GlobalIPv6Address": "", "Gateway": "192.0.2.1"}},
        },
    }


def event(name: str, action: str) -> dict[str, Any]:
    """One line of ``GET /events``."""
    attributes = {"image": "nginx:alpine", "name": name}
    return {
        "status": action, "id": f"id-{name}", "from": "nginx:alpine", "Type": "container", "Action": action,
        "Actor": {"ID": f"id-{name}", "Attributes": attributes}, "scope": "local", "time": 1461943101,
        "timeNano": 1461943101383858412,
    }  # fmt: skip
