"""The life of a gateway process: start, say that it is ready, reload on SIGHUP and on changes, stop on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import msgspec

from townhall.gateway.accesslog import AccessLog
from townhall.gateway.config import FileConfig, read_config
from townhall.gateway.gateway import Gateway
from townhall.gateway.routes import Route
from townhall.model.errors import InvalidField
from townhall.ops.listen import Endpoint, endpoint, why_not
from townhall.ops.loops import say_ready, stop_on_signals
from townhall.ops.metrics import process_metrics
from townhall.ops.notify import notify
from townhall.ops.target import SERVER_DEFAULT, Target
from townhall.ops.version import version
from townhall.serve.tls import Certificates, TlsOptions

__all__ = ["CouldNotServe", "GatewayLife", "serve_gateway"]

_log = logging.getLogger(__name__)
_USUAL_PORT = 7080
_ADMIN_PORT = 7081
_LOOK_S = 1.0
"""Between two looks whether the file has changed."""


class CouldNotServe(Exception):
    """A listener, certificate or log that cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLife:
    """What a gateway process is started with. Options win over the file."""

    file: Path | None
    routes: tuple[Route, ...]
    listen: tuple[str, ...]
    admin: str
    auto: bool
    tls_cert: str
    tls_key: str
    access_log: str
    access_log_format: str
    target: Target
    zone: str
    region: str
    environ: Mapping[str, str]
    ready_json: bool
    out: TextIO = sys.stdout

    def read(self) -> FileConfig:
        """The file with the options laid over it. Raises ``InvalidField`` and OSError."""
        found = read_config(self.file.read_text(encoding="utf-8")) if self.file is not None else FileConfig()
        options = found.options
        if self.auto:
            options = msgspec.structs.replace(options, auto=True)
        return FileConfig(
            listen=self.listen or found.listen,
            admin=self.admin or found.admin,
            options=options,
            tls=type(found.tls)(cert=self.tls_cert, key=self.tls_key) if self.tls_cert else found.tls,
            log=type(found.log)(
                access=self.access_log or found.log.access, format=self.access_log_format or found.log.format
            ),
            registry=found.registry,
            routes=(*self.routes, *found.routes),
        )


async def serve_gateway(life: GatewayLife, config: FileConfig) -> int:
    """Run until a signal asks to stop; returns the exit code. Raises ``CouldNotServe`` and ``InvalidField``."""
    certificates = _certificates(config)
    try:
        log = AccessLog(config.log.access, form=config.log.format)
    except OSError as error:
        raise CouldNotServe(f"--access-log {config.log.access}: {error.strerror}") from error
    gateway = Gateway(config.options, _registry(life, config), log)
    stopping = asyncio.Event()
    watcher: asyncio.Task[None] | None = None
    try:
        gateway.route(config.routes)
        addresses = await _listen(gateway, config, certificates)
        reload = _Reload(life, gateway, certificates)
        stop_on_signals(stopping)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.now)
        watcher = asyncio.create_task(reload.watch(), name="townhall-gateway-file")
        for name, where in addresses.items():
            if not where.loopback and certificates is None:
                _log.warning("ANYBODY WHO CAN REACH %s CAN CALL THE SERVICES BEHIND IT (%s), without TLS", where, name)
        say_ready(_ready_line(life, addresses, tls=certificates is not None), life.out, life.environ)
        await stopping.wait()
        notify(life.environ, STOPPING=1)
        _log.info("stopping")
    finally:
        if watcher is not None:
            watcher.cancel()
        await gateway.stop()
    return 0


class _Reload:
    """New routes and certificates without a restart. What cannot be read is told, and nothing changes."""

    def __init__(self, life: GatewayLife, gateway: Gateway, certificates: Certificates | None) -> None:
        self._life = life
        self._gateway = gateway
        self._certificates = certificates
        self._seen = self._state()

    def now(self) -> None:
        """Do it."""
        self._seen = self._state()
        try:
            config = self._life.read()
            self._gateway.route(config.routes)
        except (InvalidField, OSError) as error:
            _log.error("the routes were not reloaded: %s", error)
        else:
            _log.info("%d routes", len(config.routes))
        try:
            if self._certificates is not None:
                self._certificates.reload()
        except InvalidField as error:
            _log.error("the certificates were not reloaded: %s", error)
        try:
            self._gateway.log.reopen()
        except OSError as error:
            _log.error("the access log was not opened anew: %s", error)

    async def watch(self) -> None:
        """Look at the file until cancelled."""
        while self._life.file is not None:
            await asyncio.sleep(_LOOK_S)
            state = self._state()
            if state != self._seen:
                self.now()

    def _state(self) -> tuple[int, int, int] | None:
        if self._life.file is None:
            return None
        try:
            found = self._life.file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _registry(life: GatewayLife, config: FileConfig) -> dict[str, str]:
    target, file = life.target, config.registry
    found = {"urls": file.server if file.server and target.server == SERVER_DEFAULT else target.server}
    found["token"] = target.token
    found["namespace"] = file.namespace or target.namespace
    found["zone"] = life.zone or file.zone
    found["region"] = life.region or file.region
    return found


def _certificates(config: FileConfig) -> Certificates | None:
    if not config.tls.cert:
        return None
    return Certificates(TlsOptions(cert_file=config.tls.cert, key_file=config.tls.key))


async def _listen(gateway: Gateway, config: FileConfig, certificates: Certificates | None) -> dict[str, Endpoint]:
    found: dict[str, Endpoint] = {}
    for number, text in enumerate(config.listen or ("",)):
        where = endpoint(text, usual_port=_USUAL_PORT, field="listen")
        if where is not None:
            tls = None
            if certificates is not None:
                tls = certificates.either_context if config.options.http2 else certificates.context
            name = "http" if not number else f"http{number + 1}"
            try:
                found[name] = Endpoint(*await gateway.listen(where.host, where.port, tls=tls))
            except OSError as error:
                raise CouldNotServe(f"--listen {where}: {why_not(error)}") from error
    where = endpoint(config.admin or "off", usual_port=_ADMIN_PORT, field="admin")
    if where is not None:
        try:
            found["admin"] = Endpoint(*await gateway.listen_admin(where.host, where.port, process_metrics))
        except OSError as error:
            raise CouldNotServe(f"--admin {where}: {why_not(error)}") from error
    return found


def _ready_line(life: GatewayLife, addresses: dict[str, Endpoint], *, tls: bool) -> str:
    listen = {name: str(where) for name, where in addresses.items()}
    if life.ready_json:
        return json.dumps({"ready": True, "pid": os.getpid(), "version": version(), "listen": listen})
    where = ", ".join(f"{name} on {address}" for name, address in listen.items())
    return f"townhall gateway {version()} is ready: {where}{' with TLS' if tls else ''}"
