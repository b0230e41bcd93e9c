"""Passwords as slow hashes, with their parameters, so that these can grow and old hashes still be checked.

A hash costs tens of milliseconds and 16 MB on purpose: the registry computes it beside its loop (``Live.work``), never
in a decision. ``hashlib.scrypt`` lets other threads run meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from townhall.model import limits
from townhall.model.errors import TooLarge

__all__ = ["hash_password", "password_matches"]

_KIND: Final = b"scrypt"
_BLOCK: Final = 8
_MEMORY_MAX: Final = 128 * 1_048_576
"""OpenSSL refuses more than 32 MB unless it is told; 128 MB is enough for three doublings of the cost."""


def hash_password(password: str, salt: bytes, *, cost: int = limits.PASSWORD_COST) -> bytes:
    """What is stored of a password. Raises TooLarge. Slow."""
    if len(password) > limits.PASSWORD_SIZE_MAX:
        raise TooLarge("the password is too long", limit=limits.PASSWORD_SIZE_MAX)
    return b"$".join((_KIND, b"%d" % cost, salt.hex().encode(), _digest(password, salt, cost).hex().encode()))


def password_matches(password: str, stored: bytes) -> bool:
    """Whether it is the password behind a stored hash. Slow; an empty or unknown hash matches nothing."""
    kind, _, rest = stored.partition(b"$")
    parts = rest.split(b"$")
    if kind != _KIND or len(parts) != 3 or len(password) > limits.PASSWORD_SIZE_MAX:
        return False
    cost, salt, digest = int(parts[0]), bytes.fromhex(parts[1].decode()), bytes.fromhex(parts[2].decode())
    return hmac.compare_digest(_digest(password, salt, cost), digest)


def _digest(password: str, salt: bytes, cost: int) -> bytes:
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=1 << cost, r=_BLOCK, p=1, maxmem=_MEMORY_MAX, dklen=32)
