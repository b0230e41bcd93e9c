"""FastAPI and Django on uvicorn, found through Townhall and stopped under load; and httpx as its caller."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
from serving_processes import (
    EXAMPLES,
    ServiceProcess,
    consumer,
    example,
    post_http,
    slow_http,
    stops_without_a_loss,
    until,
    wait_callable,
)

import townhall
from free_ports import free_port
from townhall.client.handle import ServiceHandle
from townhall_process import TownhallProcess, environment


def test_a_stop_loses_no_request(registry: TownhallProcess) -> None:
    async def main() -> None:
        async with consumer(registry.url) as found:
            await stops_without_a_loss(found["hello-fastapi"], post_http, slow_http, (first, second))

    with example("fastapi_service.py", registry.url) as first, example("fastapi_service.py", registry.url) as second:
        asyncio.run(asyncio.wait_for(main(), 300))


def test_a_stop_loses_no_request_of_httpx(registry: TownhallProcess) -> None:
    async def main() -> None:
        async with consumer(registry.url) as found:
            transport = townhall.httpx.Transport(found)
            async with httpx.AsyncClient(transport=transport, timeout=120) as client:

                async def post(handle: ServiceHandle) -> object:
                    answer = await client.post("http://hello-fastapi/")
                    answer.raise_for_status()
                    return answer.text

                await stops_without_a_loss(found["hello-fastapi"], post, slow_http, (first, second))

    with example("fastapi_service.py", registry.url) as first, example("fastapi_service.py", registry.url) as second:
        asyncio.run(asyncio.wait_for(main(), 300))


LIFESPAN = """
import contextlib, sys, townhall, uvicorn
from fastapi import FastAPI

@contextlib.asynccontextmanager
async def own(app):
    print("own start", flush=True)
    yield {"database": "connected"}
    print("own stop", flush=True)

port = int(sys.argv[2])
registration = townhall.asgi.Registration(sys.argv[1], service="lifespan-fastapi", port=port)
app = FastAPI(lifespan=registration.around(own))
app.add_middleware(registration.counting)

@app.get("/")
async def hello():
    return registration.provider.running

uvicorn.run(app, port=port)
"""


DJANGO = """
import asyncio, sys, townhall, uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, MIDDLEWARE=[])
port = int(sys.argv[2])

def hello(request):
    return HttpResponse(str(port))

async def slow(request):
    async def pieces():
        yield b"begin"
        await asyncio.sleep(float(request.GET["seconds"]))
        yield b"end"
    return StreamingHttpResponse(pieces())

urlpatterns = [path("", hello), path("slow", slow)]
app = townhall.asgi.Registered(get_asgi_application(), sys.argv[1], service="asgi-django", port=port)
uvicorn.run(app, port=port, log_level="warning")
"""


def test_a_stop_loses_no_request_of_django_s(registry: TownhallProcess) -> None:
    async def main() -> None:
        async with consumer(registry.url) as found:
            await stops_without_a_loss(found["asgi-django"], post_http, slow_http, (first, second))

    ports = free_port(), free_port()
    first, second = (ServiceProcess(("-c", DJANGO, registry.url, str(port)), port) for port in ports)
    with first, second:
        asyncio.run(asyncio.wait_for(main(), 300))


def test_as_a_lifespan_of_fastapi(registry: TownhallProcess) -> None:
    port = free_port()

    async def main() -> None:
        async with consumer(registry.url) as found:
            handle = found["lifespan-fastapi"]
            await handle.wait_callable(budget_s=120)
            assert (await handle.get("/")).json() == 1, "its own request is counted"
            await process.stop()
            await until(lambda: not handle.instances(), "gone")
        assert process.errors.index("own start") < process.errors.index("own stop")

    with ServiceProcess(("-c", LIFESPAN, registry.url, str(port)), port) as process:
        asyncio.run(asyncio.wait_for(main(), 300))


def test_a_start_without_a_registry_fails() -> None:
    with ServiceProcess((str(EXAMPLES / "fastapi_service.py"), "http://127.0.0.1:1", str(free_port())), 0) as process:
        assert process.process.wait(120) == 3, "uvicorn's code for a start that failed"
        assert "not registered" in process.errors


def test_the_client_s_example_runs(registry: TownhallProcess, tmp_path: Path) -> None:
    with example("fastapi_service.py", registry.url) as process:
        wait_callable(registry.url, "hello-fastapi")
        done = subprocess.run(
            [sys.executable, "-W", "error", str(EXAMPLES / "httpx_client.py"), registry.url],
            env=environment({"XDG_CACHE_HOME": str(tmp_path)}), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert str(process.port) in done.stdout
