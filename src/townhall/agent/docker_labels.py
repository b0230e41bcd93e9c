"""Townhall's own labels: what a container says of the services in it.

``townhall.name`` and the like are about its one port, or the one that ``townhall.port`` names; ``townhall.8080.name`` is
about that port alone and wins over what is said for all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from townhall.agent.docker_container import Container, Port, port_of
from townhall.model.errors import InvalidField

__all__ = ["Wanted", "is_true", "wanted_by_labels"]

_PREFIX: Final = "townhall."
_KNOWN: Final = (
    "name", "port", "check", "check.interval", "check.timeout", "tags", "weight", "zone", "region", "cluster", "group",
    "namespace", "ignore", "network",
)  # fmt: skip
_OF_ONE_PORT: Final = re.compile(r"(\d+(?:/[a-z]+)?)\.(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One service as a container describes it: texts that nobody has looked at yet."""

    port: Port
    name: str
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    weight: str = ""
    places: Mapping[str, str] = field(default_factory=dict)
    """``namespace``, ``group``, ``region``, ``zone`` and ``cluster``, as far as given."""
    network: str = ""
    check: str = ""
    interval: str = ""
    timeout: str = ""
    deregister_after: str = ""
    check_more: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of the check."""


def wanted_by_labels(container: Container) -> list[Wanted] | None:
    """The services that labels name; None when there are no labels of ours. Raises InvalidField."""
    labels = {name.removeprefix(_PREFIX): text for name, text in container.labels.items() if name.startswith(_PREFIX)}
    if not labels:
        return None
    shared, single = _split(labels)
    if is_true(shared.get("ignore", "")):
        return []
    named = [port for port, own in single.items() if own.get("name")]
    if not named:
        if not shared.get("name"):
            raise InvalidField("townhall.name", "is needed beside other townhall labels")
        named = [_port(container, shared.get("port", ""))]
    elif shared.get("port"):
        raise InvalidField("townhall.port", "says nothing beside names for single ports", advice="remove it")
    stray = [port for port in single if port not in named]
    if stray:
        raise InvalidField(f"townhall.{stray[0]}.name", "is needed beside other labels for this port")
    every = [(port, {**shared, **single.get(port, {})}) for port in named]
    return [_wanted(port, texts) for port, texts in every if not is_true(texts.get("ignore", ""))]


def _split(labels: Mapping[str, str]) -> tuple[dict[str, str], dict[Port, dict[str, str]]]:
    """Labels for all ports, and those for single ones."""
    shared: dict[str, str] = {}
    single: dict[Port, dict[str, str]] = {}
    for label, text in labels.items():
        match = _OF_ONE_PORT.fullmatch(label)
        name = match[2] if match else label
        if (name not in _KNOWN and not name.startswith("meta.")) or (match and name == "port"):
            raise InvalidField(_PREFIX + label, "no such label", advice=f"there are {', '.join(_KNOWN)} and meta.*")
        if match:
            try:
                single.setdefault(port_of(match[1]), {})[name] = text
            except ValueError as error:
                raise InvalidField(_PREFIX + label, str(error)) from error
        else:
            shared[name] = text
    return shared, single


def _wanted(port: Port, texts: Mapping[str, str]) -> Wanted:
    return Wanted(
        port=port,
        name=texts["name"],
        tags=tuple(part.strip() for part in texts.get("tags", "").split(",") if part.strip()),
        metadata={key.removeprefix("meta."): value for key, value in texts.items() if key.startswith("meta.")},
        weight=texts.get("weight", ""),
        places={key: texts[key] for key in ("namespace", "group", "region", "zone", "cluster") if texts.get(key)},
        network=texts.get("network", ""),
        check=texts.get("check", ""),
        interval=texts.get("check.interval", ""),
        timeout=texts.get("check.timeout", ""),
    )


def _port(container: Container, text: str) -> Port:
    """The port of a container that names one service."""
    if text:
        try:
            return port_of(text)
        except ValueError as error:
            raise InvalidField("townhall.port", str(error)) from error
    ports = container.ports
    # TCP where there is any, and what is published before what is only exposed.
    candidates = [port for port in ports if port.protocol == "tcp"] or list(ports)
    candidates = [port for port in candidates if ports[port]] or candidates
    if len(candidates) != 1:
        shown = ", ".join(str(port) for port in candidates) or "none"
        raise InvalidField(
            "townhall.port",
            f"is needed: the container's ports are {shown}",
            advice="or name each service: townhall.PORT.name" if candidates else "",
        )
    return candidates[0]


def is_true(text: str) -> bool:
    """As people write it in labels and variables."""
    return text.strip().lower() not in ("", "0", "false", "no")
