"""A FastAPI service that is found through Townhall, and stops without losing a request. Needs fastapi and uvicorn.

``python examples/fastapi_service.py [REGISTRY [PORT]]``; stop it with Ctrl-C or SIGTERM.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

import townhall

registry = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7500"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
api = FastAPI()


@api.get("/")
@api.post("/")
async def hello() -> dict[str, int]:
    """Answers at once."""
    return {"port": port}


@api.get("/slow")
async def slow(seconds: float) -> StreamingResponse:
    """Takes its time; a stop waits for it."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"begin"
        await asyncio.sleep(seconds)
        yield b"end"

    return StreamingResponse(pieces())


app = townhall.asgi.Registered(api, registry, service="hello-fastapi", port=port, tags=["v1"], ttl=10)

if __name__ == "__main__":
    uvicorn.run(app, port=port, log_level="warning")
