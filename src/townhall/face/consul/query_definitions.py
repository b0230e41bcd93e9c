"""Prepared queries: what one says, how it is kept, found by name, filled in from a template, and run.

They lie in a space of their own: ``id/ID`` holds the definition, ``name/NAME`` the id, so that a name is taken once
and found at once. A query that is bound to a session is gone with it: it is not shown any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from townhall.core.queries import Reader
from townhall.face.consul.bodies import Body
from townhall.face.consul.durations import parse_duration
from townhall.face.consul.errors import bad
from townhall.face.consul.kv_shapes import key_bytes, prefix_span
from townhall.face.consul.picture import Picture
from townhall.face.consul.query_templates import check_template, filled
from townhall.face.consul.selection import connecting, near_first
from townhall.model.check import CheckStatus
from townhall.model.instance import Instance

__all__ = ["IDS", "SPACE", "Prepared", "definition_of", "dns_ttl_s", "every", "find", "id_key", "name_key", "run"]

SPACE = "consul.queries"
IDS = prefix_span(b"id/")
_INVALID = "Invalid prepared query"


class Prepared(NamedTuple):
    """A query as it is kept, in the shape in which Consul shows it."""

    id: str
    definition: dict[str, Any]
    created: int
    modified: int

    @property
    def name(self) -> str:
        """By which it is called; may be empty."""
        name = self.definition["Name"]
        assert isinstance(name, str)
        return name

    def shown(self) -> dict[str, Any]:
        """The whole of it."""
        return {"ID": self.id, **self.definition, "CreateIndex": self.created, "ModifyIndex": self.modified}


def id_key(query_id: str) -> bytes:
    """Where a query lies."""
    return key_bytes(f"id/{query_id}")


def name_key(name: str) -> bytes:
    """Where the id of a name lies."""
    return key_bytes(f"name/{name}")


# --- what a body asks for


def definition_of(body: Body) -> dict[str, Any]:
    """The definition, in Consul's form. Raises ``Misuse`` in its words."""
    template = body.child("Template", None)
    service = body.child("Service", None)
    dns = body.child("DNS", None)
    definition: dict[str, Any] = {
        "Name": body.text("Name"), "Session": body.text("Session"), "Token": body.text("Token"),
        "Template": {
            "Type": template.text("Type") if template else "", "Regexp": template.text("Regexp") if template else "",
            "RemoveEmptyTags": template.flag("RemoveEmptyTags") if template else False,
        },
        "Service": _service(service or Body({}, None)), "DNS": {"TTL": dns.text("TTL") if dns else ""},
    }  # fmt: skip
    if not (definition["Name"] or definition["Session"] or definition["Template"]["Type"]):
        raise bad(f"{_INVALID}: Must be bound to a session")
    if definition["Template"]["Type"]:
        check_template(definition)
    elif definition["Template"]["Regexp"]:
        raise bad(f"{_INVALID}: Bad Template: a regexp needs a type")
    if not definition["Service"]["Service"]:
        raise bad(f"{_INVALID}: Must provide a Service name to query")
    nearest = definition["Service"]["Failover"]["NearestN"]
    if nearest < 0:
        raise bad(f"{_INVALID}: Bad NearestN '{nearest}', must be >= 0")
    _check_ttl(definition["DNS"]["TTL"])
    return definition


def _service(body: Body) -> dict[str, Any]:
    failover = body.child("Failover", None)
    return {
        "Service": body.text("Service"), "SamenessGroup": body.text("SamenessGroup"),
        "Failover": {
            "NearestN": failover.integer("NearestN") if failover else 0,
            "Datacenters": (failover.texts("Datacenters") or None) if failover else None,
            "Targets": (failover.raw("Targets") or None) if failover else None,
        },
        "OnlyPassing": body.flag("OnlyPassing"), "IgnoreCheckIDs": body.texts("IgnoreCheckIDs") or None,
        "Near": body.text("Near"), "Tags": body.texts("Tags") or None, "NodeMeta": body.mapping("NodeMeta") or None,
        "ServiceMeta": body.mapping("ServiceMeta") or None, "Connect": body.flag("Connect"), "Peer": body.text("Peer"),
    }  # fmt: skip


def _check_ttl(ttl: str) -> None:
    if not ttl:
        return
    try:
        ttl_ms = parse_duration(ttl)
    except ValueError as error:
        raise bad(f"{_INVALID}: Bad DNS TTL '{ttl[:64]}': {error}") from None
    if ttl_ms < 0:
        raise bad(f"{_INVALID}: DNS TTL '{ttl[:64]}', must be >=0")


def dns_ttl_s(definition: dict[str, Any]) -> int | None:
    """The time to live of its DNS answers in seconds; None when it says nothing."""
    ttl = definition["DNS"]["TTL"]
    return parse_duration(ttl) // 1_000 if ttl else None


# --- finding


def _load(reader: Reader, query_id: str, kv: Any) -> Prepared | None:
    try:
        definition = msgspec.json.decode(kv.value, type=dict[str, Any])
        query = Prepared(query_id, definition, kv.create_revision, kv.mod_revision)
        bound, complete = definition["Session"], {"Name", "Template", "Service", "DNS"} <= definition.keys()
    except (msgspec.MsgspecError, KeyError):
        return None  # Somebody wrote it into the space by other means.
    if not complete or (bound and bound not in reader.state.sessions):
        return None
    return query


def every(reader: Reader) -> Iterator[Prepared]:
    """All queries that the actor may see, by id."""
    for kv in reader.range(SPACE, *IDS).kvs:
        query = _load(reader, kv.key[3:].decode("utf-8", "replace"), kv)
        if query is not None:
            yield query


def by_id(reader: Reader, query_id: str) -> Prepared | None:
    """The query with this id."""
    kv = reader.get(SPACE, id_key(query_id))
    return None if kv is None else _load(reader, query_id, kv)


def find(reader: Reader, wanted: str) -> Prepared | None:
    """The query with this id or name, or the template whose name is its longest beginning, filled in."""
    if not wanted:
        return None
    named = reader.get(SPACE, name_key(wanted))
    found = by_id(reader, named.value.decode("utf-8", "replace") if named is not None else wanted)
    if found is not None and not found.definition["Template"]["Type"]:
        return found
    fits = [query for query in every(reader) if query.definition["Template"]["Type"] and wanted.startswith(query.name)]
    if not fits:
        return found
    template = max(fits, key=lambda query: len(query.name))
    return template._replace(definition=filled(template.definition, wanted))


# --- running


def run(reader: Reader, picture: Picture, definition: dict[str, Any], *, near: str = "") -> list[Instance]:
    """The instances that the query gives: alive, and as it wants them; those that are near come first."""
    wanted = definition["Service"]
    name = wanted["Service"]
    instances = connecting(picture, reader, name) if wanted["Connect"] else picture.instances(reader, name)
    found = [one for one in instances if _fits(reader, picture, one, wanted)]
    return list(near_first(reader, found, attrgetter("node"), near or wanted["Near"], picture.site.node))


def _fits(reader: Reader, picture: Picture, instance: Instance, wanted: dict[str, Any]) -> bool:
    own = {tag.lower() for tag in instance.tags}
    for tag in wanted["Tags"] or ():
        excluded = tag.startswith("!")
        if (tag.removeprefix("!").lower() in own) is excluded:
            return False
    if any(instance.metadata.get(key) != value for key, value in (wanted["ServiceMeta"] or {}).items()):
        return False
    node = picture.node(reader, instance.node)
    if node is None or any(node.meta.get(key) != value for key, value in (wanted["NodeMeta"] or {}).items()):
        return False
    ignored = wanted["IgnoreCheckIDs"] or ()
    for check in picture.checks_for(reader, instance):
        if check.id in ignored or check.status is CheckStatus.PASSING:
            continue
        if wanted["OnlyPassing"] or check.status is CheckStatus.CRITICAL:
            return False
    return True
