"""A service's definition becomes its registration."""

from __future__ import annotations

import pytest

from townhall.client.definitions import Service
from townhall.model.errors import InvalidField
from townhall.model.instance import ServiceKey


def test_the_provider_s_address_and_a_stable_id_fill_in() -> None:
    service = Service(name="user", port=80, tags=["a"], metadata={"k": "v"}, weight=2.0, zone="b", ready=False)
    registration = service.registration(address="127.0.0.1", claim="c", ttl_ms=500, lease=None)
    assert registration.id == "user-127.0.0.1-80"
    assert (registration.address, registration.claim, registration.ttl_ms, registration.lease) == (
        "127.0.0.1",
        "c",
        500,
        None,
    )
    assert (registration.tags, registration.metadata, registration.weight) == (("a",), {"k": "v"}, 2.0)
    assert (registration.zone, registration.ready) == ("b", False)
    assert service.key == ServiceKey("default", "default", "user")


def test_its_own_address_and_id_win() -> None:
    service = Service(name="user", port=80, address="::1", id="me")
    registration = service.registration(address="127.0.0.1", claim="", ttl_ms=None, lease="7")
    assert (registration.address, registration.id, registration.lease) == ("::1", "me", "7")


def test_one_text_is_no_list_of_tags() -> None:
    with pytest.raises(InvalidField, match=r"tags: 'v2' is a text and no list \(use \['v2'\]\)"):
        Service(name="user", port=80, tags="v2")
