"""aiohttp's server under a registration, in this process."""

from __future__ import annotations

import asyncio
import os
import signal

import aiohttp
import pytest
from aiohttp import web
from fake_registry import FakeRegistry, Refusal, until
from test_client_asgi_app import EVERYTHING

import townhall
from free_ports import free_port
from townhall.client.aiohttp_server import register
from townhall.model.errors import Denied

KEY = ("default", "default", "user")


def test_it_is_ready_when_it_listens_and_refuses_when_it_stops() -> None:
    async def main() -> None:
        async with asyncio.timeout(120), FakeRegistry(acknowledged=[EVERYTHING]) as fake:
            go, begun = asyncio.Event(), asyncio.Event()
            stopping: list[str] = []

            async def answer(request: web.Request) -> web.Response:
                begun.set()
                await go.wait()
                return web.Response(text="ok")

            async def on_stop() -> None:
                stopping.append("told")

            app, port = web.Application(), free_port()
            app.add_routes([web.get("/", answer)])
            registration = register(app, fake.url, service="user", port=port, handle_signals=False, on_stop=on_stop)
            runner = web.AppRunner(app)
            await runner.setup()
            (instance,) = fake.instances[KEY].values()
            assert instance["verdict"] == "starting"
            await web.TCPSite(runner, "127.0.0.1", port).start()
            await until(lambda: next(iter(fake.instances[KEY].values())).get("ready"))
            async with aiohttp.ClientSession() as session:
                running = asyncio.ensure_future(session.get(f"http://127.0.0.1:{port}/"))
                await begun.wait()
                leaving = asyncio.ensure_future(registration.stop(app))
                await until(lambda: stopping)
                async with session.get(f"http://127.0.0.1:{port}/") as refused:
                    assert refused.status == 503
                    assert refused.headers["townhall-not-acted-on"] == "stopping"
                    assert refused.headers["connection"] == "close"
                assert fake.instances[KEY], "still registered, for what runs"
                go.set()
                assert (await running).status == 200
                (await running).release()
                await leaving
            assert not fake.instances[KEY]
            await runner.cleanup()

    asyncio.run(main())
    assert townhall.aiohttp.register is register


def test_a_start_that_cannot_register_fails() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            fake.faults.refuse = lambda asked: Refusal(403, "denied")
            app = web.Application()
            register(app, fake.url, service="user", port=1)
            with pytest.raises(Denied):
                await web.AppRunner(app).setup()

    asyncio.run(main())


@pytest.mark.skipif(os.name == "nt", reason="no signals to oneself")
def test_a_signal_ends_the_program_when_we_have_left() -> None:
    async def main() -> None:
        async with asyncio.timeout(120), FakeRegistry(acknowledged=[EVERYTHING]) as fake:
            app = web.Application()
            registration = register(app, fake.url, service="user", port=free_port())
            raised: list[str] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context["message"]))
            runner = web.AppRunner(app, handle_signals=True)
            await runner.setup()
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.Event().wait()
            finally:
                left.append(not fake.instances[KEY] and registration.provider is not None)
                await runner.cleanup()

    left: list[bool] = []
    with pytest.raises(web.GracefulExit):
        asyncio.run(main())
    assert left == [True]
