"""What Consul says to who lacks a right."""

from __future__ import annotations

from townhall.core.queries import Reader
from townhall.model.access import Level, Resource

__all__ = ["lacks"]


def lacks(reader: Reader, resource: Resource, level: Level, name: str) -> str:
    """The text of a refusal for want of a right."""
    accessor = reader.actor.token_id or "00000000-0000-0000-0000-000000000002"
    right = f"{resource.value}:{level.name.lower()}"
    return f"Permission denied: token with AccessorID '{accessor}' lacks permission '{right}' on \"{name}\""
