"""Townhall, a service registry. This package root is the SDK; the server lives in rooms that only ``ops`` assembles.

Names are imported on first use, so that ``import townhall`` costs next to nothing::

    async with townhall.Provider("http://127.0.0.1:7500", service="user", port=8080):
        ...
    users = townhall.Consumer("http://127.0.0.1:7500")["user"]
    answer = await users.get("/users/1")

Errors are in ``townhall.errors``; programs without an event loop use ``townhall.blocking``. Adapters for
other frameworks and clients are modules of their own beside this one (``townhall.asgi``,
``townhall.httpx``, …; docs/integrations.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from townhall import aiohttp as aiohttp
    from townhall import asgi as asgi
    from townhall import celery as celery
    from townhall import grpc as grpc
    from townhall import gunicorn as gunicorn
    from townhall import httpx as httpx
    from townhall import otel as otel
    from townhall.client import blocking as blocking
    from townhall.client.api import Registry as Registry
    from townhall.client.consumer import Consumer as Consumer
    from townhall.client.definitions import Service as Service
    from townhall.client.interfaces import Interfaces as Interfaces
    from townhall.client.provider import Provider as Provider
    from townhall.client.records import Instance as Instance
    from townhall.model import errors as errors
    from townhall.model.errors import NoInstance as NoInstance
    from townhall.model.errors import TownhallError as TownhallError
    from townhall.model.errors import Unreachable as Unreachable

    __version__: str

__all__ = [
    "Consumer", "Instance", "Interfaces", "NoInstance", "Provider", "Registry", "Service", "TownhallError", "Unreachable", "__version__", "blocking",
    "errors",
]  # fmt: skip

# Adapters are not in ``__all__``: importing everything must not need other people's packages.
_HOMES = {
    "Consumer": ("townhall.client.consumer", "Consumer"),
    "Instance": ("townhall.client.records", "Instance"),
    "Interfaces": ("townhall.client.interfaces", "Interfaces"),
    "NoInstance": ("townhall.model.errors", "NoInstance"),
    "Provider": ("townhall.client.provider", "Provider"),
    "Registry": ("townhall.client.api", "Registry"),
    "Service": ("townhall.client.definitions", "Service"),
    "TownhallError": ("townhall.model.errors", "TownhallError"),
    "Unreachable": ("townhall.model.errors", "Unreachable"),
    "aiohttp": ("townhall.aiohttp", ""),
    "asgi": ("townhall.asgi", ""),
    "blocking": ("townhall.client.blocking", ""),
    "celery": ("townhall.celery", ""),
    "errors": ("townhall.model.errors", ""),
    "grpc": ("townhall.grpc", ""),
    "gunicorn": ("townhall.gunicorn", ""),
    "httpx": ("townhall.httpx", ""),
    "otel": ("townhall.otel", ""),
}


def __getattr__(name: str) -> object:
    value: object
    if name == "__version__":
        value = import_module("importlib.metadata").version("townhall")
    elif name in _HOMES:
        module, attribute = _HOMES[name]
        value = getattr(import_module(module), attribute) if attribute else import_module(module)
    else:
        raise AttributeError(f"module 'townhall' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
