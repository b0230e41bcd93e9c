"""Registrator's conventions: ``SERVICE_NAME``, ``SERVICE_<port>_NAME`` and the like, as labels or in the environment.

Whoever used Registrator need not change a container. Unlike there, a container that names no service is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from townhall.agent.docker_container import Container, Port
from townhall.agent.docker_labels import Wanted, is_true
from townhall.model.errors import InvalidField

__all__ = ["wanted_by_registrator"]

_PREFIX: Final = "SERVICE_"
_OWN: Final = ("NAME", "TAGS", "ID", "IGNORE")
"""What is not metadata; nor is anything that begins with ``CHECK_``."""
_COMMA: Final = re.compile(r"(?<!\\),")
_REFUSED: Final = {
    "CHECK_SCRIPT": "a container may not run commands on this machine; use SERVICE_CHECK_HTTP, _TCP or _GRPC",
    "CHECK_CMD": "commands in containers are not run; use SERVICE_CHECK_HTTP, _TCP or _GRPC",
    "CHECK_TTL": "nobody could send the heartbeat; use SERVICE_CHECK_HTTP, _TCP or _GRPC",
}


def wanted_by_registrator(container: Container, *, directly: bool) -> list[Wanted]:
    """The services that Registrator would register; ``directly``: those of ports that are not published, too.

    Raises InvalidField.
    """
    both = {**container.environ, **container.labels}
    given = {name.removeprefix(_PREFIX): text for name, text in both.items() if name.startswith(_PREFIX)}
    every = directly or container.host_network
    ports = [port for port, is_published in container.ports.items() if is_published or every]
    found = []
    for port in ports:
        own = {
            key.removeprefix(f"{port.number}_"): text
            for key, text in given.items()
            if key.startswith(f"{port.number}_")
        }
        texts = {key: text for key, text in given.items() if not key.split("_")[0].isdigit()} | own
        if texts.get("NAME") and not is_true(texts.get("IGNORE", "")):
            name = texts["NAME"] if own.get("NAME") or len(ports) == 1 else f"{texts['NAME']}-{port.number}"
            found.append(_wanted(port, name, texts))
    return found


def _wanted(port: Port, name: str, texts: Mapping[str, str]) -> Wanted:
    for key, reason in _REFUSED.items():
        if texts.get(key):
            raise InvalidField(_PREFIX + key, reason)
    tags = (part.replace("\\,", ",").strip() for part in _COMMA.split(texts.get("TAGS", "")))
    check, more = _check(texts)
    return Wanted(
        port=port,
        name=name,
        tags=tuple(tag for tag in tags if tag),
        metadata={key.lower(): text for key, text in texts.items() if key not in _OWN and not key.startswith("CHECK_")},
        check=check,
        interval=texts.get("CHECK_INTERVAL", ""),
        timeout=texts.get("CHECK_TIMEOUT", ""),
        deregister_after=texts.get("CHECK_DEREGISTER_AFTER", ""),
        check_more=more,
    )


def _check(texts: Mapping[str, str]) -> tuple[str, dict[str, object]]:
    """The check, and other fields of it; the first of several counts, in Registrator's order."""
    for kind in ("HTTP", "HTTPS"):
        if path := texts.get(f"CHECK_{kind}"):
            method = texts.get(f"CHECK_{kind}_METHOD")
            return f"{kind.lower()}:{path}", {"method": method} if method else {}
    if is_true(texts.get("CHECK_TCP", "")):
        return "tcp", {}
    if is_true(texts.get("CHECK_GRPC", "")):
        tls = is_true(texts.get("CHECK_GRPC_USE_TLS", ""))
        skip = tls and is_true(texts.get("CHECK_TLS_SKIP_VERIFY", ""))
        return "grpcs" if tls else "grpc", {"tls_skip_verify": True} if skip else {}
    return "", {}
