"""The ASGI wrapper, driven message by message as a server would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fake_registry import FakeRegistry, Refusal, until

import asyncio_servers
import townhall
from free_ports import free_port
from townhall.client.asgi_app import Registered, Registration

KEY = ("default", "default", "user")
Messages = list[dict[str, Any]]
EVERYTHING = {"user": 1_000_000}
"""A subscriber that knows of every drain."""


class Server:
    """The server's half of a lifespan, and of connections."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app
        self.sent: Messages = []
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def start(self) -> str:
        self.task = asyncio.ensure_future(self.app({"type": "lifespan"}, self.events.get, self.send))
        self.events.put_nowait({"type": "lifespan.startup"})
        await until(lambda: self.sent)
        return str(self.sent[0]["type"])

    async def stop(self) -> None:
        self.events.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait_for(self.task, 120)

    async def request(self, path: str = "/") -> Messages:
        sent: Messages = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        await self.app({"type": "http", "method": "GET", "path": path}, receive, send)
        return sent


class Application:
    """With a lifespan, unless ``plain``; answers when ``go`` is set; echoes over WebSockets."""

    def __init__(self, *, plain: bool = False) -> None:
        self.plain = plain
        self.log: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self.state = "the application's own"

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            if self.plain:
                raise ValueError("only http here")
            while True:
                message = await receive()
                self.log.append(message["type"].rpartition(".")[2])
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            self.log.append(f"disconnect {message['code']}")
            with pytest.raises(OSError, match="the service stops"):
                await send({"type": "websocket.send", "text": "late"})
        else:
            self.log.append("request")
            await self.go.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    await asyncio_servers.close(server)
    await server.wait_closed()


@pytest.mark.parametrize("plain", [False, True])
def test_registered_inside_the_application_s_own_life(plain: bool) -> None:
    async def main() -> None:
        async with asyncio.timeout(120), FakeRegistry(acknowledged=[EVERYTHING]) as fake, listening() as port:
            application = Application(plain=plain)
            app = Registered(application, fake.url, service="user", port=port, tags=["v2"], handle_signals=False)
            server = Server(app)
            assert await server.start() == "lifespan.startup.complete"
            assert application.log == ([] if plain else ["startup"])
            (instance,) = fake.instances[KEY].values()
            assert instance["tags"] == ["v2"]
            await until(lambda: next(iter(fake.instances[KEY].values())).get("ready"))
            assert (await server.request())[0]["status"] == 200
            assert app.state == "the application's own"
            await server.stop()
            assert not fake.instances[KEY]
            assert [one["type"] for one in server.sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
            assert application.log == (["request"] if plain else ["startup", "request", "shutdown"])

    asyncio.run(main())


def test_a_start_that_cannot_register_fails_and_the_application_cleans_up() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            fake.faults.refuse = lambda asked: Refusal(403, "denied")
            application = Application()
            server = Server(Registered(application, fake.url, service="user", port=1))
            assert await server.start() == "lifespan.startup.failed"
            assert "not registered" in server.sent[0]["message"]
            await asyncio.wait_for(server.task, 120)
            assert application.log == ["startup", "shutdown"]
            assert len(server.sent) == 1

    asyncio.run(main())


def test_an_application_that_fails_is_not_covered_up() -> None:
    async def main() -> None:
        async def broken(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            raise RuntimeError("bug")

        async with FakeRegistry(acknowledged=[EVERYTHING]) as fake:
            server = Server(Registered(broken, fake.url, service="user", port=free_port(), handle_signals=False))
            await server.start()
            with pytest.raises(RuntimeError, match="bug"):
                await server.task
            await server.app.registration.stop()

    asyncio.run(main())


@pytest.mark.skipif(os.name == "nt", reason="no signals to oneself")
def test_a_signal_drains_first_and_reaches_the_server_afterwards() -> None:
    async def main() -> None:
        signals: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda number, frame: signals.append(number))
        try:
            async with asyncio.timeout(120), FakeRegistry(acknowledged=[EVERYTHING]) as fake, listening() as port:
                application = Application()
                on_stop: list[str] = []

                async def stopping() -> None:
                    on_stop.append("told")

                server = Server(Registered(application, fake.url, service="user", port=port, on_stop=stopping))
                await server.start()
                await until(lambda: next(iter(fake.instances[KEY].values())).get("ready"))
                application.go.clear()
                running = asyncio.ensure_future(server.request())
                await until(lambda: "request" in application.log)
                os.kill(os.getpid(), signal.SIGTERM)
                await until(lambda: on_stop)
                refused = await server.request()
                assert refused[0]["status"] == 503
                assert (b"townhall-not-acted-on", b"stopping") in refused[0]["headers"]
                assert (b"connection", b"close") in refused[0]["headers"]
                assert fake.instances[KEY], "still registered, for what runs"
                assert not signals
                application.go.set()
                assert (await running)[0]["status"] == 200
                await until(lambda: signals == [signal.SIGTERM])
                assert not fake.instances[KEY]
                await server.stop()
                assert application.log == ["startup", "request", "shutdown"]
        finally:
            signal.signal(signal.SIGTERM, before)

    asyncio.run(main())


def test_sockets_are_closed_for_another_instance_when_we_stop() -> None:
    async def main() -> None:
        async with asyncio.timeout(120), FakeRegistry(acknowledged=[EVERYTHING]) as fake, listening() as port:
            application = Application()
            server = Server(Registered(application, fake.url, service="user", port=port, handle_signals=False))
            await server.start()
            incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            sent: Messages = []

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            socket = asyncio.ensure_future(server.app({"type": "websocket"}, incoming.get, send))
            incoming.put_nowait({"type": "websocket.connect"})
            incoming.put_nowait({"type": "websocket.receive", "text": "hello"})
            await until(lambda: len(sent) == 2)
            assert sent[1] == {"type": "websocket.send", "text": "hello"}
            assert server.app.registration.provider.running == 1
            await server.stop()
            await socket
            assert sent[2]["type"] == "websocket.close"
            assert sent[2]["code"] == 1012
            assert "disconnect 1012" in application.log
            late: Messages = []

            async def send_late(message: dict[str, Any]) -> None:
                late.append(message)

            incoming.put_nowait({"type": "websocket.connect"})
            await server.app({"type": "websocket"}, incoming.get, send_late)
            assert [one["type"] for one in late] == ["websocket.close"]

    asyncio.run(main())


def test_the_parts_for_frameworks_that_take_parts() -> None:
    async def main() -> None:
        async with asyncio.timeout(120), FakeRegistry(acknowledged=[EVERYTHING]) as fake, listening() as port:
            registration = Registration(fake.url, service="user", port=port, handle_signals=False)
            log: list[str] = []

            @contextlib.asynccontextmanager
            async def own(app: object) -> AsyncIterator[dict[str, Any]]:
                log.append(f"start {len(fake.instances.get(KEY, {}))}")
                yield {"database": 1}
                log.append(f"stop {len(fake.instances[KEY])}")

            async with registration.around(own)(None) as state:
                assert state == {"database": 1}
                assert len(fake.instances[KEY]) == 1
            assert log == ["start 0", "stop 0"]

    asyncio.run(main())
    assert townhall.asgi.Registered is Registered


def test_interfaces_are_served_beside_the_application() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake:
            offered = townhall.Interfaces(methods=["GET /"])
            port = free_port()
            app = Application(plain=False)
            app.go.set()
            server = Server(
                Registered(
                    app,
                    fake.url,
                    service="user",
                    port=port,
                    interfaces=offered,
                    handle_signals=False,
                    drain_on_stop=False,
                )
            )
            assert await server.start() == "lifespan.startup.complete"
            listening = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
            await until(lambda: fake.instances.get(KEY))
            (instance,) = fake.instances[KEY].values()
            assert instance["ports"] == {"interfaces": port}
            path = f"/.well-known/townhall/interfaces/{offered.revision}"
            assert (await server.request(path))[1]["body"] == offered.data
            assert (await server.request("/"))[1]["body"] != offered.data
            await asyncio_servers.close(listening)
            await server.stop()

    asyncio.run(main())
