"""Slow hashes: right and wrong passwords, parameters that travel with the hash, and what is no hash at all."""

from __future__ import annotations

import pytest

from townhall.core.passwords import hash_password, password_matches
from townhall.model import limits
from townhall.model.errors import TooLarge

CHEAP = 4


@pytest.mark.parametrize("password", ["secret", "", "päßword", "\ud800", "x" * limits.PASSWORD_SIZE_MAX])
def test_there_and_back(password):
    stored = hash_password(password, b"salt", cost=CHEAP)
    assert password_matches(password, stored)
    assert not password_matches(password + "x", stored)
    assert stored != hash_password(password, b"pepper", cost=CHEAP)


def test_the_usual_cost():
    stored = hash_password("secret", b"salt")
    assert stored.startswith(b"scrypt$%d$" % limits.PASSWORD_COST)
    assert password_matches("secret", stored)


def test_too_long():
    with pytest.raises(TooLarge):
        hash_password("x" * (limits.PASSWORD_SIZE_MAX + 1), b"salt")
    assert not password_matches("x" * (limits.PASSWORD_SIZE_MAX + 1), hash_password("x", b"salt", cost=CHEAP))


@pytest.mark.parametrize("stored", [b"", b"plain", b"scrypt$4$00", b"bcrypt$4$00$00"])
def test_what_is_no_hash_matches_nothing(stored):
    assert not password_matches("", stored)
