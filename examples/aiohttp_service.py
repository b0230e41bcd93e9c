"""An aiohttp service that is found through Townhall, and stops without losing a request. Needs aiohttp.

``python examples/aiohttp_service.py [REGISTRY [PORT]]``; stop it with Ctrl-C or SIGTERM.
"""

import asyncio
import sys

from aiohttp import web

import townhall

registry = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7500"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 8000


async def hello(request: web.Request) -> web.Response:
    """Answers at once."""
    return web.json_response({"port": port})


async def slow(request: web.Request) -> web.StreamResponse:
    """Takes its time; a stop waits for it."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b"begin")
    await asyncio.sleep(float(request.query["seconds"]))
    await answer.write(b"end")
    return answer


app = web.Application()
app.add_routes([web.get("/", hello), web.post("/", hello), web.get("/slow", slow)])
townhall.aiohttp.register(app, registry, service="hello-aiohttp", port=port, tags=["v1"], ttl=10)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=port, print=None)
