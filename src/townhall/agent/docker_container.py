"""What Docker says of one container, as far as it matters to who wants to call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from townhall.client.records import Health
from townhall.model import limits
from townhall.model.check import CheckStatus
from townhall.model.errors import InvalidField

__all__ = ["Container", "Port", "neighbour_of", "port_of", "read_container", "runs"]

_ANYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - what Docker shows for a port that is published everywhere
_SHARED: Final = "container:"
"""A network mode: that of the container which is named after it."""


class Port(NamedTuple):
    """A container's port."""

    number: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return str(self.number) if self.protocol == "tcp" else f"{self.number}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Container:
    """One that runs."""

    name: str
    labels: Mapping[str, str]
    environ: Mapping[str, str]
    ports: Mapping[Port, bool]
    """What the container offers by itself, TCP before UDP, and whether it is published."""
    published: Mapping[Port, tuple[str, int]]
    """Where ports of its network are published: address and port of this machine."""
    networks: Mapping[str, str]
    """Its address in each; the main one comes first."""
    host_network: bool
    health: Health | None
    """What Docker itself has found; None when it does not look."""

    def reached(self, port: Port, *, directly: bool, network: str) -> tuple[str, int]:
        """Address ('' for that of this machine) and port under which others reach a port of the container.

        ``directly``: in the container's own network, the named one or the main one. Raises InvalidField when nobody can.
        """
        if self.host_network:
            return "", port.number
        if not directly:
            if port not in self.published:
                raise InvalidField(
                    f"port {port}", "is not published",
                    advice=f"start it with -p {port}, or the agent with --docker-address container",
                )  # fmt: skip
            address, outer = self.published[port]
            return ("" if address in _ANYWHERE else address), outer
        found = self.networks.get(network, "") if network else next(iter(self.networks.values()), "")
        if not found:
            raise InvalidField("network", f"the container has no address{f' in {network}' if network else ''}")
        return found, port.number


def runs(inspected: Mapping[str, Any]) -> bool:
    """Whether it runs (or is paused). One between two starts counts as running in Docker's words, but has no ports."""
    state = inspected.get("State") or {}
    return bool(state.get("Running")) and not state.get("Restarting")


def neighbour_of(inspected: Mapping[str, Any]) -> str:
    """The container whose network it shares; '' when it has its own, or the machine's."""
    mode = str((inspected.get("HostConfig") or {}).get("NetworkMode") or "")
    return mode.removeprefix(_SHARED) if mode.startswith(_SHARED) else ""


def read_container(inspected: Mapping[str, Any], neighbour: Mapping[str, Any] | None = None) -> Container:
    """From ``GET /containers/{id}/json``, and that of the container whose network it shares.

    Raises InvalidField when that is not what Docker says.
    """
    try:
        return _read(inspected, neighbour or inspected)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidField("container", f"Docker's description cannot be read: {error!r}") from error


def port_of(text: str) -> Port:
    """``80`` or ``53/udp``. Raises ValueError."""
    number, _, protocol = text.partition("/")
    if not (number.isascii() and number.isdecimal() and 0 < int(number) <= limits.PORT_MAX):
        raise ValueError(f"{text!r} is no port")
    if protocol not in ("", "tcp", "udp"):
        raise ValueError(f"{text!r} is a port of neither TCP nor UDP")
    return Port(int(number), protocol or "tcp")


def _read(inspected: Mapping[str, Any], connected: Mapping[str, Any]) -> Container:
    config, settings = inspected["Config"], connected.get("NetworkSettings") or {}
    published = _published(settings.get("Ports") or {})
    texts = {*(config.get("ExposedPorts") or {})} | (
        set(settings.get("Ports") or {}) if connected is inspected else set()
    )
    own = sorted((port_of(text) for text in texts if _is_callable(text)), key=lambda port: (port.protocol, port.number))
    mode = str((connected.get("HostConfig") or {}).get("NetworkMode") or "").replace("default", "bridge")
    return Container(
        name=str(inspected["Name"]).lstrip("/"),
        labels=dict(config.get("Labels") or {}),
        environ=dict(one.partition("=")[::2] for one in config.get("Env") or []),
        ports={port: port in published for port in own},
        published=published,
        networks=_networks(settings.get("Networks") or {}, mode),
        host_network=mode == "host",
        health=_health(inspected.get("State") or {}),
    )


def _is_callable(text: str) -> bool:
    return text.partition("/")[2] in ("", "tcp", "udp")


def _published(ports: Mapping[str, Any]) -> dict[Port, tuple[str, int]]:
    found = {}
    for text, bindings in ports.items():
        # IPv4 before IPv6, which Docker lists beside it for the same port.
        for binding in sorted(bindings or [], key=lambda one: ":" in (one.get("HostIp") or ""))[:1]:
            if _is_callable(text):
                found[port_of(text)] = (binding.get("HostIp") or "", int(binding["HostPort"]))
    return found


def _networks(networks: Mapping[str, Any], mode: str) -> dict[str, str]:
    found = {}
    for name, network in sorted(networks.items(), key=lambda item: (item[0] != mode, item[0])):
        address = (network or {}).get("IPAddress") or (network or {}).get("GlobalIPv6Address")
        if address:
            found[name] = str(address)
    return found


def _health(state: Mapping[str, Any]) -> Health | None:
    """Paused, or what the image's HEALTHCHECK says."""
    if state.get("Paused"):
        return Health(CheckStatus.CRITICAL, "the container is paused")
    health = state.get("Health") or {}
    status = health.get("Status")
    if status in (None, "", "none"):
        return None
    if status == "healthy":
        return Health(CheckStatus.PASSING)
    log = health.get("Log") or []
    output = str((log[-1] or {}).get("Output") or "") if log else ""
    first = next((line.strip() for line in output.splitlines() if line.strip()), "")
    text = f"Docker's health check says {status}{f': {first}' if first else ''}"
    return Health(CheckStatus.CRITICAL, text[: limits.AGENT_REASON_SIZE_MAX])
