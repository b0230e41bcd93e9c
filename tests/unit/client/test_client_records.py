"""Records are the JSON field for field, and forgive what a newer or older registry sends."""

from __future__ import annotations

import json

import msgspec
import pytest

from townhall.client.records import Drain, Instance, Key, Registration, ServiceRecord
from townhall.model.instance import ServiceKey

SHOWN = {
    "id": "a", "service": "s", "namespace": "n", "group": "g", "address": "::1", "port": 80, "ports": {"admin": 81}, "tags": ["t"],
    "metadata": {"k": "v"}, "weight": 2.0, "region": "r", "zone": "z", "cluster": "c", "enabled": True, "ephemeral": True, "lease": "7",
    "protocol": "native", "origin": "o", "node": "m", "incarnation": 3, "registered_at": 4, "revision": 5, "verdict": "up",
    "reason": "", "since": 6, "callable": True, "held": False,
}  # fmt: skip


def test_an_instance_encodes_to_what_it_was_decoded_from() -> None:
    instance = msgspec.json.decode(json.dumps(SHOWN).encode(), type=Instance)
    assert json.loads(msgspec.json.encode(instance)) == SHOWN
    assert instance.key == ServiceKey("n", "g", "s")


def test_unknown_fields_and_verdicts_are_no_error() -> None:
    instance = msgspec.json.decode(
        b'{"id":"a","service":"s","address":"x","verdict":"dreaming","new":[1]}', type=Instance
    )
    assert instance.verdict == "dreaming"
    assert not instance.suspect


def test_urls_of_instances() -> None:
    six = msgspec.convert(SHOWN, Instance)
    assert six.authority == "[::1]:80"
    assert six.url("/x") == "http://[::1]:80/x"
    assert six.url(scheme="https", port="admin") == "https://[::1]:81/"
    with pytest.raises(KeyError):
        six.url(port="none")
    named = Instance(id="a", service="s", address="host")
    assert named.authority == "host"


def test_a_registration_sends_only_what_was_said() -> None:
    body = json.loads(msgspec.json.encode(Registration(service="s", address="127.0.0.1", port=1)))
    assert body == {"service": "s", "address": "127.0.0.1", "port": 1}


def test_small_things_follow_from_their_fields() -> None:
    assert Drain(service="s", id="a", state="complete").over
    assert not Drain(service="s", id="a", state="draining").over
    assert ServiceRecord(name="s").key == ServiceKey("default", "default", "s")
    assert Key(key="k").value is None
    assert Instance(id="a", service="s", address="x", verdict="suspect").suspect
