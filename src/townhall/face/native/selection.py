"""Which instances of a service are asked for: health, tags, metadata, place, and a filter expression."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from townhall.face import Request
from townhall.face.native.requests import Flag, Parameter, Text, Texts
from townhall.model import limits
from townhall.model.errors import InvalidField
from townhall.model.instance import Instance
from townhall.wire import filter_expression
from townhall.wire.filter_expression import Selector
from townhall.wire.filter_predicate import Field, Kind, predicate

__all__ = ["FIELDS", "PARAMETERS", "Selection", "read", "resolve"]

_HEALTHY = Flag("healthy", "Only instances that may be called.")
_TAG = Texts("tag", "Only instances with this tag; all of them when repeated.", count_max=limits.TAGS_COUNT_MAX)
_META = Texts("meta", "Only instances with this metadata, `key:value`.", count_max=limits.METADATA_COUNT_MAX)
_ZONE = Text("zone", "Only this zone.", size_max=limits.LABEL_SIZE_MAX)
_REGION = Text("region", "Only this region.", size_max=limits.LABEL_SIZE_MAX)
_CLUSTER = Text("cluster", "Only this cluster.", size_max=limits.LABEL_SIZE_MAX)
_FILTER = Text(
    "filter",
    'An expression over the fields of an instance, such as `zone == "b" and "v2" in tags and metadata.version != "1"`.',
    size_max=limits.FILTER_SIZE_MAX,
)
PARAMETERS: tuple[Parameter, ...] = (_HEALTHY, _TAG, _META, _ZONE, _REGION, _CLUSTER, _FILTER)

FIELDS: dict[str, Field] = {
    "id": Field(Kind.TEXT, lambda instance: instance.id),
    "service": Field(Kind.TEXT, lambda instance: instance.key.name),
    "namespace": Field(Kind.TEXT, lambda instance: instance.key.namespace),
    "group": Field(Kind.TEXT, lambda instance: instance.key.group),
    "address": Field(Kind.TEXT, lambda instance: instance.address),
    "port": Field(Kind.NUMBER, lambda instance: instance.port),
    "ports": Field(Kind.MAP, lambda instance: instance.ports),
    "tags": Field(Kind.LIST, lambda instance: instance.tags),
    "metadata": Field(Kind.MAP, lambda instance: instance.metadata),
    "weight": Field(Kind.NUMBER, lambda instance: instance.weight),
    "region": Field(Kind.TEXT, lambda instance: instance.region),
    "zone": Field(Kind.TEXT, lambda instance: instance.zone),
    "cluster": Field(Kind.TEXT, lambda instance: instance.cluster),
    "enabled": Field(Kind.FLAG, lambda instance: instance.enabled),
    "ephemeral": Field(Kind.FLAG, lambda instance: instance.ephemeral),
    "protocol": Field(Kind.TEXT, lambda instance: instance.protocol),
    "origin": Field(Kind.TEXT, lambda instance: instance.origin),
    "node": Field(Kind.TEXT, lambda instance: instance.node),
    "incarnation": Field(Kind.NUMBER, lambda instance: instance.incarnation),
    "registered_at": Field(Kind.NUMBER, lambda instance: instance.registered_at),
    "revision": Field(Kind.NUMBER, lambda instance: instance.revision),
    "verdict": Field(Kind.TEXT, lambda instance: instance.verdict),
    "reason": Field(Kind.TEXT, lambda instance: instance.reason),
    "since": Field(Kind.NUMBER, lambda instance: instance.since),
    "callable": Field(Kind.FLAG, lambda instance: instance.callable),
    "held": Field(Kind.FLAG, lambda instance: instance.evidence.held),
}
"""What an expression may name, besides ``metadata.KEY`` and ``ports.NAME``."""

Accepts = Callable[[Instance], bool]


class Selection(NamedTuple):
    """What was asked for. ``accepts`` is None when every instance is meant."""

    healthy: bool
    accepts: Accepts | None


def resolve(selector: Selector) -> Field | None:
    """The field of an instance that a selector names, or None."""
    first = selector.path[0]
    if len(selector.path) == 1:
        return FIELDS.get(first)
    # A metadata key may hold dots, and people write them plainly: metadata.build.number.
    key = ".".join(selector.path[1:])
    if first == "metadata":
        return Field(Kind.TEXT, lambda instance: instance.metadata.get(key))
    if first == "ports":
        return Field(Kind.NUMBER, lambda instance: instance.ports.get(key))
    return None


def read(request: Request) -> Selection:
    """What a request selects. Raises InvalidField."""
    healthy = _HEALTHY.read(request)
    conditions: list[Accepts] = []
    if tags := _TAG.read(request):
        wanted = frozenset(tags)
        conditions.append(lambda instance: wanted.issubset(instance.tags))
    if pairs := [_pair(text) for text in _META.read(request)]:
        conditions.append(lambda instance: all(instance.metadata.get(key) == value for key, value in pairs))
    # A place that is given but empty asks for instances without one.
    if zone := _given(_ZONE, request):
        conditions.append(lambda instance: instance.zone == zone[0])
    if region := _given(_REGION, request):
        conditions.append(lambda instance: instance.region == region[0])
    if cluster := _given(_CLUSTER, request):
        conditions.append(lambda instance: instance.cluster == cluster[0])
    if expression := _FILTER.read(request):
        conditions.append(predicate(filter_expression.parse(expression), resolve))
    if not conditions:
        return Selection(healthy, None)
    if len(conditions) == 1:
        return Selection(healthy, conditions[0])
    return Selection(healthy, lambda instance: all(condition(instance) for condition in conditions))


def _given(parameter: Text, request: Request) -> tuple[str] | None:
    return (parameter.read(request),) if parameter.name in request.query else None


def _pair(text: str) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if not colon or not key:
        raise InvalidField("meta", f"{text[:64]!r} is not key:value")
    return key, value
