"""Townhall's own service files: TOML with ``[service]``, or ``[[service]]`` for several.

::

    [service]
    name = "web"
    port = 8001
    check = "http:/health"            # or checks = ["http:/health", "tcp"]
    check_interval = "5s"
    tags = ["v2"]
    metadata = { team = "shop" }
"""

from __future__ import annotations

import tomllib

from townhall.agent.checks import check_of, timing_of
from townhall.agent.definitions import Definition
from townhall.agent.fields import Fields
from townhall.client.definitions import Service
from townhall.model import limits, names
from townhall.model.check import CheckDefinition
from townhall.model.errors import InvalidField

__all__ = ["read_toml"]


def read_toml(text: str, *, timing: CheckDefinition, scripts: bool) -> list[Definition]:
    """The services of a file. Raises InvalidField, whose message names the field."""
    try:
        content = Fields(tomllib.loads(text), "")
    except tomllib.TOMLDecodeError as error:
        raise InvalidField("file", f"is not TOML: {error}") from error
    given = content.raw("service")
    tables = [Fields(given, "service")] if isinstance(given, dict) else content.tables("service")
    content.done(("service",))
    if not tables:
        raise InvalidField("file", "names no service", advice="begin with [service], or [[service]] for several")
    return [_definition(fields, timing, scripts=scripts) for fields in tables]


def _definition(fields: Fields, timing: CheckDefinition, *, scripts: bool) -> Definition:
    port = names.port(fields.whole("port"), fields.path("port"), zero=True)
    own = timing_of(
        interval_ms=fields.duration("check_interval", timing.interval_ms),
        timeout_ms=fields.duration("check_timeout") or None,
        failures=fields.whole("check_failures", timing.failures_before_critical),
        successes=fields.whole("check_successes", timing.success_before_passing),
        deregister_after_ms=fields.duration("deregister_after"),
    )
    texts = [*([fields.text("check")] if "check" in fields else []), *fields.texts("checks")]
    try:
        checks = {text: check_of(text, port=port, timing=own, scripts=scripts) for text in texts}
    except InvalidField as error:
        raise InvalidField(fields.where, error.message, advice=error.advice) from error
    service = Service(
        name=names.service(fields.text("name"), fields.path("name")),
        port=port,
        ports=names.ports(fields.numbers("ports"), fields.path("ports")),
        address=names.address(fields.text("address"), fields.path("address")) if "address" in fields else None,
        id=names.instance_id(fields.text("id"), fields.path("id")) if "id" in fields else "",
        namespace=names.namespace(fields.text("namespace", "default"), fields.path("namespace")),
        group=names.namespace(fields.text("group", "default"), fields.path("group")),
        tags=names.tags(fields.texts("tags"), fields.path("tags")),
        metadata=names.metadata(fields.pairs("metadata"), fields.path("metadata")),
        weight=names.weight(fields.number("weight", 1.0), fields.path("weight")),
        region=names.label(fields.text("region"), fields.path("region"), empty=True),
        zone=names.label(fields.text("zone"), fields.path("zone"), empty=True),
        cluster=names.label(fields.text("cluster"), fields.path("cluster"), empty=True),
    )
    fields.done()
    if len(checks) > limits.CHECKS_PER_INSTANCE_MAX:
        raise InvalidField(fields.path("checks"), f"more than {limits.CHECKS_PER_INSTANCE_MAX}")
    return Definition(service=service, checks=checks)
