"""New names: drawn from the machine's randomness, or from a seed in the simulation and in tests."""

from __future__ import annotations

import os
import random
import secrets
import uuid

__all__ = ["RandomIds", "SeededIds"]


class RandomIds:
    """Ids that nobody can guess."""

    __slots__ = ()

    def lease_id(self) -> int:
        """A positive 63-bit number."""
        return (int.from_bytes(os.urandom(8), "big") >> 1) or 1

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
