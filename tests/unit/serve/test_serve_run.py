from __future__ import annotations

import pytest
from serve_support import Serving, get, serving

from townhall.face import Request
from townhall.model.access import Actor
from townhall.model.errors import Unauthenticated
from townhall.serve.http1 import Connection
from townhall.serve.run import Run


def test_a_run_asks_who_it_is_each_time_it_reads() -> None:
    async def test(server: Serving) -> None:
        driver = server.server._driver
        plan = driver.heads.plan(get("/hello", "X-Token: s3cret"))
        request = Request("GET", "/hello", {}, {}, {}, b"", "", Actor(), server.hub.live)
        run = Run(driver, Connection(driver), plan, request)
        server.hub.secrets.add("s3cret")
        assert run.reader() is server.hub
        server.hub.secrets.clear()
        with pytest.raises(Unauthenticated):
            run.reader()

    serving(test)


def test_a_plain_run_waits_for_nothing() -> None:
    async def test(server: Serving) -> None:
        driver = server.server._driver
        plan = driver.heads.plan(get("/hello"))
        run = Run(driver, Connection(driver), plan, Request("GET", "/", {}, {}, {}, b"", "", Actor(), server.hub.live))
        assert not run.patient
        assert not run.hungry
        for nothing in (run.lost, run.writable, run.leave, run.input_ended, run.expired):
            nothing()
        run.received(b"x")

    serving(test)
