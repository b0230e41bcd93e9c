"""New names: drawn from the machine's randomness, or from a seed in the simulation and in tests."""

from __future__ import annotations

import os
import random
import secrets
import struct
import uuid
from typing import Final

__all__ = ["RandomIds", "SeededIds"]


_NUMBERS: Final = struct.Struct("256Q")
"""Drawn at once: a call into the system for each of them would be a twentieth of a registration's whole cost."""


class RandomIds:
    """Ids that nobody can guess."""

    __slots__ = ("_drawn",)

    def __init__(self) -> None:
        self._drawn: list[int] = []

    def lease_id(self) -> int:
        """A positive 63-bit number."""
        if not self._drawn:
            self._drawn.extend(_NUMBERS.unpack(os.urandom(_NUMBERS.size)))
        return (self._drawn.pop() >> 1) or 1

    def secret(self) -> str:
        """256 bits, URL-safe."""
        return secrets.token_urlsafe(32)

    def name(self) -> str:
        """A random UUID."""
        return str(uuid.uuid4())


class SeededIds:
    """The same ids for the same seed."""

    __slots__ = ("_random",)

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def lease_id(self) -> int:
        """A positive 63-bit number."""
        return self._random.getrandbits(63) or 1

    def secret(self) -> str:
        """256 bits in hexadecimal."""
        return f"{self._random.getrandbits(256):064x}"

    def name(self) -> str:
        """A UUID made of the seed's bits."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
