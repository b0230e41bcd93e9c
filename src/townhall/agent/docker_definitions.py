"""From what containers say to what an agent registers.

An image brings labels of whoever built it: so they may name checks of the container's own ports only, never other hosts
and never commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from townhall.agent.checks import check_of, timing_of
from townhall.agent.definitions import Definition
from townhall.agent.docker_container import Container, read_container
from townhall.agent.docker_labels import Wanted, wanted_by_labels
from townhall.agent.docker_registrator import wanted_by_registrator
from townhall.client.definitions import Service
from townhall.model import names
from townhall.model.check import CheckDefinition
from townhall.model.durations import duration_ms
from townhall.model.errors import InvalidField

__all__ = ["Containers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """How definitions are made of containers."""

    host: str
    """Part of every id, so that agents of several machines do not meet: ``docker-HOST-CONTAINER-PORT``."""
    timing: CheckDefinition
    by_container_address: bool = False
    """Register the container's own address and port instead of the published ones."""

    def definitions(
        self, inspected: Mapping[str, Any], neighbour: Mapping[str, Any] | None = None
    ) -> dict[str, Definition]:
        """The services of one container, by id; ``neighbour`` is that whose network it shares.

        Raises InvalidField, whose message names container and label.
        """
        container = read_container(inspected, neighbour)
        try:
            wanted = wanted_by_labels(container)
            if wanted is None:
                wanted = wanted_by_registrator(container, directly=self.by_container_address)
            return {one.service.id: one for one in (self._definition(container, each) for each in wanted)}
        except InvalidField as error:
            raise InvalidField(f"container {container.name}", error.message, advice=error.advice) from error

    def _definition(self, container: Container, wanted: Wanted) -> Definition:
        port, places = wanted.port, wanted.places
        address, outer = container.reached(port, directly=self.by_container_address, network=wanted.network)
        # As Registrator has it: the port number alone does not say how it is called.
        protocol = () if port.protocol == "tcp" or port.protocol in wanted.tags else (port.protocol,)
        service = Service(
            name=names.service(wanted.name, "name"),
            id=names.instance_id(f"docker-{self.host}-{container.name}-{str(port).replace('/', '-')}"),
            port=outer,
            address=address or None,
            namespace=names.namespace(places.get("namespace", "default")),
            group=names.namespace(places.get("group", "default"), "group"),
            tags=names.tags((*wanted.tags, *protocol)),
            metadata=names.metadata(wanted.metadata),
            weight=_weight(wanted.weight),
            region=names.label(places.get("region", ""), "region", empty=True),
            zone=names.label(places.get("zone", ""), "zone", empty=True),
            cluster=names.label(places.get("cluster", ""), "cluster", empty=True),
        )
        return Definition(service=service, checks=self._checks(wanted, outer), health=container.health)

    def _checks(self, wanted: Wanted, port: int) -> dict[str, CheckDefinition]:
        text = wanted.check
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
                interval_ms=duration_ms(wanted.interval) if wanted.interval else self.timing.interval_ms,
                timeout_ms=duration_ms(wanted.timeout) if wanted.timeout else None,
                failures=self.timing.failures_before_critical,
                successes=self.timing.success_before_passing,
                deregister_after_ms=duration_ms(wanted.deregister_after) if wanted.deregister_after else 0,
            )
        except ValueError as error:
            raise InvalidField("check", str(error)) from error
        return {text: replace(check_of(text, port=port, timing=timing), **wanted.check_more)}


def _weight(text: str) -> float:
    try:
        return names.weight(float(text or 1))
    except ValueError as error:
        raise InvalidField("townhall.weight", f"{text!r} is no number") from error
