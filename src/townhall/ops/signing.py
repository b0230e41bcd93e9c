"""Signed tokens for users of the etcd space: JSON Web Tokens, written as etcd's ``--auth-token`` writes them.

A signed token needs no memory: it is good after a restart and on every registry that has the public key, until it expires
or anything about users and roles changes (it carries the guard's revision, as etcd's do).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import jwt

from townhall.model import limits
from townhall.model.errors import InvalidField, Unavailable

__all__ = ["JwtSigner", "signer_of"]

_FIELD: Final = "access-etcd-auth-token"
_METHODS: Final = frozenset(
    {f"{family}{size}" for family in ("RS", "PS", "ES", "HS") for size in (256, 384, 512)} | {"EdDSA"}
)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}
_TTL_S: Final = 300
"""etcd's default."""


def signer_of(text: str) -> JwtSigner | None:
    """What the option says: None for ``simple``. Raises InvalidField that says what is wrong."""
    kind, _, rest = text.strip().partition(",")
    if kind in {"", "simple"} and not rest:
        return None
    if kind != "jwt":
        raise InvalidField(_FIELD, f"{kind!r} is neither 'simple' nor 'jwt'")
    given: dict[str, str] = {}
    for pair in rest.split(","):
        name, separator, value = pair.partition("=")
        if not separator or name not in {"sign-method", "pub-key", "priv-key", "ttl"} or name in given:
            raise InvalidField(_FIELD, f"{pair!r} is not one of sign-method=, pub-key=, priv-key=, ttl=")
        given[name] = value
    method = given.get("sign-method", "")
    if method not in _METHODS:
        raise InvalidField(_FIELD, f"sign-method {method!r} is not one of {', '.join(sorted(_METHODS))}")
    private, public = _key(given.get("priv-key", "")), _key(given.get("pub-key", ""))
    if method.startswith("HS"):
        public = private
    if public is None:
        missing = "priv-key" if method.startswith("HS") else "pub-key"
        raise InvalidField(_FIELD, f"{method} needs {missing}=FILE")
    signer = JwtSigner(method=method, public=public, private=private, ttl_s=_seconds(given.get("ttl", "")))
    signer.try_out()
    return signer


def _key(path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidField(_FIELD, f"{path}: {error.strerror}") from error


def _seconds(text: str) -> int:
    if not text:
        return _TTL_S
    number, unit = text[:-1], text[-1]
    if unit not in _UNITS or not number.isdecimal() or int(number) == 0:
        raise InvalidField(_FIELD, f"ttl {text!r} is not a time such as 5m")
    return int(number) * _UNITS[unit]


class JwtSigner:
    """Signs and reads tokens; implements ``hub.Signer``."""

    def __init__(self, *, method: str, public: bytes, private: bytes | None, ttl_s: int) -> None:
        self._method = method
        self._public = public
        self._private = private
        self._ttl_s = ttl_s
        self._read: OrderedDict[str, tuple[str, int, int]] = OrderedDict()
        """Tokens whose signature was found right: user, revision, and when they expire."""

    def try_out(self) -> None:
        """Raises InvalidField when the keys do not belong together, or to the method."""
        try:
            if self._private is not None and self.read(self.sign("x", 1)) != ("x", 1):
                raise InvalidField(_FIELD, "what the private key signs, the public key does not confirm")
            jwt.get_algorithm_by_name(self._method).prepare_key(self._public)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise InvalidField(_FIELD, f"the keys are not fit for {self._method}: {error}") from error

    def sign(self, user: str, revision: int) -> str:
        """A token. Raises Unavailable when only a public key is there: then others sign."""
        if self._private is None:
            raise Unavailable("this registry has no private key to sign tokens with", advice="log in elsewhere")
        claims = {"username": user, "revision": revision, "exp": int(time.time()) + self._ttl_s}
        return jwt.encode(claims, self._private, algorithm=self._method)

    def read(self, token: str) -> tuple[str, int] | None:
        """Whose it is and at which revision it was signed; None when it is not valid (any more)."""
        found = self._read.get(token)
        if found is None:
            found = self._verify(token)
            if found is None:
                return None
            self._read[token] = found
            if len(self._read) > limits.LOGINS_COUNT_MAX:
                self._read.popitem(last=False)
        user, revision, expires_s = found
        return (user, revision) if time.time() < expires_s else None

    def _verify(self, token: str) -> tuple[str, int, int] | None:
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._public, algorithms=[self._method], options={"require": ["exp", "username", "revision"]}
            )
        except jwt.PyJWTError:
            return None
        user, revision = claims["username"], claims["revision"]
        if not isinstance(user, str) or not isinstance(revision, int):
            return None
        return user, revision, int(claims["exp"])
