"""Who may import whom. A new room or a new third-party package is a decision: add it here and say why in docs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from house import rules

# Room → rooms it may import besides itself. ``face`` is the contract in face/__init__.py and the pure router.
ALLOWED = {
    "": {"client", "model"},
    "model": set(),
    "client": {"model"},
    "core": {"model"},
    "engine": {"model"},
    "hub": {"core", "engine", "model"},
    "probe": {"core", "hub", "model"},
    # Registers what cannot register itself: the SDK does the registering, the probers the looking.
    "agent": {"client", "model", "probe"},
    "wire": {"model"},
    "face": {"core", "model"},
    "face.native": {"core", "face", "model", "wire"},
    "face.consul": {"core", "face", "model", "wire"},
    "face.dns": {"core", "face", "model", "wire"},
    "face.etcd": {"core", "face", "model", "wire"},
    "gateway": {"client", "model", "wire"},
    # DNS is no HTTP: its contract stands in face/dns/__init__.py instead of in ``face``.
    "serve": {"core", "face", "face.dns", "hub", "model", "wire"},
    "ops": {
        "",
        "agent",
        "client",
        "core",
        "engine",
        "face",
        "face.consul",
        "face.dns",
        "face.etcd",
        "face.native",
        "gateway",
        "hub",
        "model",
        "probe",
        "serve",
        "wire",
    },
}
# Third-party packages, room by room. The SDK's rooms (model, client) have msgspec alone.
PACKAGES = {
    "core": {"msgspec", "sortedcontainers"},
    "serve": {"msgspec", "httptools"},
    # The tables and the Huffman code of HTTP/2's headers (docs/decisions/0004); SDK and other rooms do without.
    "wire": {"msgspec", "hpack"},
    "ops": {"jwt", "msgspec", "uvloop"},
}
# What one module alone may import. Adapters between the SDK and other people's packages are imported by who uses them.
ADAPTERS = {
    "townhall.client.aiohttp_client": {"aiohttp"},
    "townhall.client.aiohttp_server": {"aiohttp"},
    "townhall.client.celery_workers": {"celery"},
    "townhall.client.grpc_aio_channel": {"grpc"},
    "townhall.client.grpc_blocking_channel": {"grpc"},
    "townhall.client.grpc_counting": {"grpc"},
    "townhall.client.grpc_instances": {"grpc"},
    "townhall.client.httpx_transport": {"httpx"},
    "townhall.client.telemetry": {"opentelemetry"},
}
PURE = {"model", "wire", "core", "face", "face.consul", "face.dns", "face.etcd", "face.native"}
# Modules whose import, and calls whose use, would make a pure room depend on time, chance, the machine or the loop.
IMPURE = {
    "asyncio",
    "logging",
    "os",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
}


@pytest.mark.parametrize("module", rules.modules())
def test_rooms_import_only_what_they_may(module: str) -> None:
    path, room = rules.modules()[module], rules.room(module)
    assert room in ALLOWED, f"{room!r} is a new room: list it in ALLOWED"
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for line, name in rules.imports(path, package=package):
        head = name.split(".")[0]
        if head == "townhall":
            known = name if name in rules.modules() else name.rpartition(".")[0]
            target = rules.room(known)
            assert target == room or target in ALLOWED[room], (
                f"{rules.where(path)}:{line}: {room or 'townhall'} must not import {target} ({name})"
            )
        elif head not in sys.stdlib_module_names:
            allowed = PACKAGES.get(room, {"msgspec"}) | ADAPTERS.get(module, set())
            assert head in allowed, f"{rules.where(path)}:{line}: {room} must not import {head}"
        elif room in PURE:
            assert head not in IMPURE, f"{rules.where(path)}:{line}: {room} is pure and must not import {head}"


def test_the_sdk_brings_no_server_code() -> None:
    script = (
        "import sys, townhall; townhall.Provider, townhall.Consumer, townhall.blocking, townhall.asgi\n"
        "bad = [m for m in sys.modules if m.startswith('townhall.') and m.split('.')[1] not in ('asgi', 'client', 'model')]\n"
        "bad += [m for m in ('httptools', 'uvloop', 'sortedcontainers', 'sqlite3', 'hpack') if m in sys.modules]\n"
        f"bad += [m for m in {sorted(set().union(*ADAPTERS.values()))} if m in sys.modules]\n"
        "print(bad)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
