"""Identifiers in the form of UUIDs for things that the face itself keeps, drawn from what makes each of them unique."""

from __future__ import annotations

import hashlib
import itertools
import re

from townhall.core.queries import Reader
from townhall.face import Request

__all__ = ["UUID", "Identifiers", "uuid_of"]

UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""What an identifier of this form looks like."""


def uuid_of(*parts: object) -> str:
    """A UUID (version 8: of our own making, RFC 9562) that is the same for the same parts."""
    digits = hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "backslashreplace")).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"


class Identifiers:
    """New ones: the journal's own name was drawn at random, and no two requests have the same number and time."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._numbers = itertools.count(1)

    def new(self, request: Request, reader: Reader) -> str:
        """One that nobody else has."""
        return uuid_of(
            self._node, reader.history, reader.position, request.live.now_ms(), request.peer, next(self._numbers)
        )

    def number(self) -> int:
        """How many were made, this one included: tells two of the same millisecond apart."""
        return next(self._numbers)
