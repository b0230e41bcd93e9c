"""What a container's labels and environment say of the services in it.

``townhall.*`` labels first; then Registrator's names, ``SERVICE_NAME`` or ``SERVICE_<port>_NAME``, as labels or in the
environment. A container with neither is not registered. An image brings labels of whoever built it: so they may name
checks of the container's own ports only, never other hosts and never commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from townhall.agent.checks import check_of, timing_of
from townhall.agent.definitions import Definition
from townhall.agent.durations import duration_ms
from townhall.client.definitions import Service
from townhall.client.records import Health
from townhall.model import limits, names
from townhall.model.check import CheckDefinition, CheckStatus
from townhall.model.errors import InvalidField

__all__ = ["Containers"]

_PREFIX: Final = "townhall."
_KNOWN: Final = (
    "name", "port", "check", "check.interval", "check.timeout", "tags", "weight", "zone", "region", "cluster", "group",
    "namespace", "ignore", "network",
)  # fmt: skip
_ANYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - what Docker shows for a port that is published everywhere
_REGISTRATOR_OWN: Final = ("NAME", "TAGS", "ID", "IGNORE", "CHECK_HTTP", "CHECK_TCP", "CHECK_INTERVAL", "CHECK_TIMEOUT")


@dataclass(frozen=True, slots=True)
class _Container:
    """What an inspection says, as far as it matters here."""

    name: str
    labels: Mapping[str, str]
    environ: Mapping[str, str]
    ports: Mapping[int, tuple[str, int] | None]
    """TCP ports: where each is published (address, port), None where it is only exposed."""
    networks: Mapping[str, str]
    host_network: bool
    health: Health | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """How definitions are made of containers."""

    host: str
    """Part of every id, so that agents of several machines do not meet: ``docker-HOST-CONTAINER-PORT``."""
    timing: CheckDefinition
    by_container_address: bool = False
    """Register the container's own address and port instead of the published ones."""

    def definitions(self, inspected: Mapping[str, Any]) -> dict[str, Definition]:
        """The services of one container, by id. Raises InvalidField, whose message names container and label."""
        try:
            container = _read(inspected)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidField("container", f"Docker's description cannot be read: {error!r}") from error
        try:
            return {one.service.id: one for one in self._of(container)}
        except InvalidField as error:
            raise InvalidField(f"container {container.name}", error.message, advice=error.advice) from error

    def _of(self, container: _Container) -> list[Definition]:
        labels = {
            name.removeprefix(_PREFIX): value for name, value in container.labels.items() if name.startswith(_PREFIX)
        }
        if _true(labels.get("ignore", "")) or (not labels.get("name") and _true(_given(container).get("IGNORE", ""))):
            return []
        unknown = [name for name in labels if name not in _KNOWN and not name.startswith("meta.")]
        if unknown:
            raise InvalidField(
                _PREFIX + unknown[0], "no such label", advice=f"there are {', '.join(_KNOWN)} and meta.*"
            )
        if labels.get("name"):
            return [self._labelled(container, labels)]
        if labels:
            raise InvalidField("townhall.name", "is needed beside other townhall labels")
        return self._registrator(container)

    def _labelled(self, container: _Container, labels: Mapping[str, str]) -> Definition:
        port = _port(container, labels.get("port", ""))
        service = self._service(
            container,
            port,
            name=labels["name"],
            network=labels.get("network", ""),
            namespace=names.namespace(labels.get("namespace") or "default"),
            group=names.namespace(labels.get("group") or "default", "group"),
            tags=_listed(labels.get("tags", "")),
            metadata={key.removeprefix("meta."): value for key, value in labels.items() if key.startswith("meta.")},
            weight=_number(labels.get("weight", "")),
            **{key: names.label(labels.get(key, ""), key, empty=True) for key in ("region", "zone", "cluster")},
        )
        interval, timeout = labels.get("check.interval", ""), labels.get("check.timeout", "")
        checks = self._checks(service, labels.get("check", ""), interval, timeout)
        return Definition(service=service, checks=checks, health=container.health)

    def _registrator(self, container: _Container) -> list[Definition]:
        given = _given(container)
        numbers = [port for port in container.ports if container.ports[port] is not None or self.by_container_address]
        wanted = [port for port in numbers if given.get(f"{port}_NAME") or given.get("NAME")]
        found = []
        for port in wanted:
            own = {key.removeprefix(f"{port}_"): value for key, value in given.items() if key.startswith(f"{port}_")}
            shared = {key: value for key, value in given.items() if not key.split("_")[0].isdigit()}
            if _true(own.get("IGNORE", "")):
                continue
            values = shared | own
            name = own.get("NAME") or (values["NAME"] if len(numbers) == 1 else f"{values['NAME']}-{port}")
            metadata = {key.lower(): value for key, value in values.items() if key not in _REGISTRATOR_OWN}
            service = self._service(container, port, name=name, tags=_listed(values.get("TAGS", "")), metadata=metadata)
            text = f"http:{values['CHECK_HTTP']}" if values.get("CHECK_HTTP") else ""
            text = "tcp" if not text and _true(values.get("CHECK_TCP", "")) else text
            checks = self._checks(service, text, values.get("CHECK_INTERVAL", ""), values.get("CHECK_TIMEOUT", ""))
            found.append(Definition(service=service, checks=checks, health=container.health))
        return found

    def _service(self, container: _Container, port: int, *, name: str, network: str = "", **more: Any) -> Service:
        more["tags"], more["metadata"] = names.tags(more.get("tags", ())), names.metadata(more.get("metadata", {}))
        address, outer = self._reached(container, port, network)
        return Service(
            name=names.service(name, "name"),
            id=names.instance_id(f"docker-{self.host}-{container.name}-{port}"),
            port=outer,
            address=address or None,
            **more,
        )

    def _reached(self, container: _Container, port: int, network: str) -> tuple[str, int]:
        """Address ('' for that of this machine) and port under which others reach a container's port."""
        if container.host_network:
            return "", port
        if not self.by_container_address:
            published = container.ports.get(port)
            if published is None:
                raise InvalidField(
                    f"port {port}", "is not published",
                    advice=f"start it with -p {port}, or the agent with --docker-address container",
                )  # fmt: skip
            return ("" if published[0] in _ANYWHERE else published[0]), published[1]
        address = container.networks.get(network) if network else next(iter(container.networks.values()), "")
        if not address:
            raise InvalidField("network", f"the container has no address{f' in {network}' if network else ''}")
        return address, port

    def _checks(self, service: Service, text: str, interval: str, timeout: str) -> dict[str, CheckDefinition]:
        if not text or text == "none":
            return {}
        kind, _, rest = text.partition(":")
        if kind == "script":
            raise InvalidField("check", "a label may not run commands on this machine", advice="use http, tcp or grpc")
        if rest.startswith("//") or (kind == "tcp" and rest):
            raise InvalidField(
                "check", f"{text!r} looks elsewhere than at the container", advice="write http:/path or tcp"
            )
        try:
            timing = timing_of(
                interval_ms=duration_ms(interval) if interval else self.timing.interval_ms,
                timeout_ms=duration_ms(timeout) if timeout else None,
                failures=self.timing.failures_before_critical,
                successes=self.timing.success_before_passing,
            )
        except ValueError as error:
            raise InvalidField("check", str(error)) from error
        return {text: check_of(text, port=service.port, timing=timing)}


def _read(inspected: Mapping[str, Any]) -> _Container:
    config, settings = inspected["Config"], inspected.get("NetworkSettings") or {}
    published = settings.get("Ports") or {}
    ports: dict[int, tuple[str, int] | None] = {}
    for text in sorted({*(config.get("ExposedPorts") or {}), *published}):
        number, _, protocol = text.partition("/")
        if protocol not in ("", "tcp"):
            continue
        bindings = published.get(text) or []
        # IPv4 before IPv6, which Docker lists beside it for the same port.
        binding = next(iter(sorted(bindings, key=lambda one: ":" in (one.get("HostIp") or ""))), None)
        ports[int(number)] = (binding.get("HostIp") or "", int(binding["HostPort"])) if binding else None
    networks = {}
    for name, network in (settings.get("Networks") or {}).items():
        address = (network or {}).get("IPAddress") or (network or {}).get("GlobalIPv6Address")
        if address:
            networks[name] = str(address)
    return _Container(
        name=str(inspected["Name"]).lstrip("/"),
        labels=dict(config.get("Labels") or {}),
        environ=dict(one.partition("=")[::2] for one in config.get("Env") or []),
        ports=ports,
        networks=networks,
        host_network=(inspected.get("HostConfig") or {}).get("NetworkMode") == "host",
        health=_health(inspected.get("State") or {}),
    )


def _health(state: Mapping[str, Any]) -> Health | None:
    """What Docker itself says: paused, or the image's HEALTHCHECK. None when it says nothing."""
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


def _given(container: _Container) -> dict[str, str]:
    """Registrator's values without ``SERVICE_``; labels win over the environment."""
    both = {**container.environ, **container.labels}
    return {name.removeprefix("SERVICE_"): value for name, value in both.items() if name.startswith("SERVICE_")}


def _port(container: _Container, text: str) -> int:
    if text:
        if not (text.isascii() and text.isdecimal() and 0 < int(text) <= limits.PORT_MAX):
            raise InvalidField("townhall.port", f"{text!r} is no port")
        return int(text)
    published = [port for port, where in container.ports.items() if where is not None]
    candidates = published or list(container.ports)
    if len(candidates) != 1:
        shown = ", ".join(str(port) for port in candidates) or "none"
        raise InvalidField("townhall.port", f"is needed: the container's ports are {shown}")
    return candidates[0]


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _number(text: str) -> float:
    try:
        return names.weight(float(text or 1))
    except ValueError as error:
        raise InvalidField("townhall.weight", f"{text!r} is no number") from error


def _true(text: str) -> bool:
    return text.strip().lower() not in ("", "0", "false", "no")
