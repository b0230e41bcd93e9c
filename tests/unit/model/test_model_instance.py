"""The values of the catalogue: keys, instances, settings."""

from __future__ import annotations

import gc

import msgspec
import pytest

from townhall.model.instance import CLEAR, Evidence, Instance, ServiceKey, ServiceSettings, Verdict

WEB = ServiceKey("default", "default", "web")


def test_service_keys_read_as_people_write_them() -> None:
    assert str(WEB) == "web"
    assert str(ServiceKey("default", "blue", "web")) == "blue@@web"
    assert str(ServiceKey("team", "default", "web")) == "team/web"


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("held", [False, True])
def test_only_up_and_held_suspects_may_be_called(verdict: Verdict, *, held: bool) -> None:
    instance = Instance(key=WEB, id="a", address="127.0.0.1", verdict=verdict, evidence=Evidence(held=held))
    assert instance.callable == (verdict is Verdict.UP or (verdict is Verdict.SUSPECT and held))


def test_values_survive_the_journal_and_stay_out_of_the_collector() -> None:
    instance = Instance(
        key=WEB, id="a", address="::1", port=80, tags=("x",), metadata={"k": "v"}, lease=7, verdict=Verdict.DOWN
    )
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(instance), type=Instance)
    assert again == instance
    assert again.ephemeral
    assert again.evidence == CLEAR
    assert not gc.is_tracked(again)


def test_settings_refuse_what_they_do_not_know() -> None:
    with pytest.raises(msgspec.ValidationError, match="flor"):
        msgspec.json.decode(b'{"flor": 0.5}', type=ServiceSettings)
    assert msgspec.json.decode(b'{"floor": 0.25}', type=ServiceSettings).floor == 0.25
