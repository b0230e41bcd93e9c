"""What stays wrong is told ever more rarely."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest
from gateway_support import run, until

from townhall.client.handle import ServiceHandle
from townhall.gateway import services
from townhall.gateway.complaint import Complaint, away_text
from townhall.gateway.options import GatewayOptions
from townhall.gateway.routes import Route
from townhall.gateway.services import Service
from townhall.model.errors import Denied, NoInstance, TownhallError


def test_it_is_told_at_once_then_ever_more_rarely_and_once_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "townhall.gateway")
    complaint = Complaint("it is well again")
    complaint.end()
    told = []
    for second in range(3_000):
        complaint.tell(away_text("nothing listens there"), now_s=1_000.0 + second)
        if caplog.records:
            told.append(second)
            assert "nothing listens there" in caplog.records.pop().getMessage()
            caplog.clear()
    assert told == [0, 10, 30, 70, 150, 310, 630, 1_230, 1_830, 2_430]
    for _ in range(2):
        complaint.end()
    assert [record.getMessage() for record in caplog.records] == ["it is well again"]
    caplog.clear()
    complaint.tell("wrong again", now_s=4_000.0)
    assert [record.levelname for record in caplog.records] == ["WARNING"], "at once, as at first"


class Handle:
    """Fails to start as it is told."""

    def __init__(self, *failures: TownhallError) -> None:
        self.failures = list(failures)

    async def start(self) -> None:
        if self.failures:
            raise self.failures.pop(0)

    def on_change(self, callback: object) -> Any:
        return lambda: None

    def instances(self) -> tuple[()]:
        return ()

    def stop(self) -> None:
        pass


def test_a_registry_that_is_away_is_told_of_once_and_a_refusal_for_each_service(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "townhall.gateway")
    monkeypatch.setattr(services, "_RETRY_PAUSE_S", 0.0)

    async def main() -> None:
        gone = NoInstance("no registry", why="registry_unreachable", told="nothing listens there")
        away = Complaint("the registry answers")
        made = []
        for name in ("a", "b"):
            # The last is that of a source that cannot be looked up.
            failures = [
                gone,
                gone,
                Denied("not yours"),
                Denied("not yours"),
                NoInstance("x", why="registry_unreachable"),
            ]
            handle = cast("ServiceHandle", Handle(*failures))
            made.append(Service(Route(name=name, service=name), handle, GatewayOptions(), away))
            made[-1].start()
        await until(lambda: all(one.ready for one in made))
        for one in made:
            one.stop()

    run(main())
    said = sorted(record.getMessage() for record in caplog.records)
    assert said == [
        "a is known now",
        "a is not known yet: not yours",
        "b is known now",
        "b is not known yet: not yours",
        away_text("nothing listens there"),
    ]
