"""Builds a registry from its settings: engine, hub, faces and servers. ``lifetime`` runs what is built here."""

from __future__ import annotations

import gc
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from townhall.core import Rules
from townhall.engine.file import FileEngine
from townhall.engine.memory import MemoryEngine
from townhall.face.consul.site import Site
from townhall.face.etcd.member import SPACE, Identity, identity
from townhall.face.etcd.routes import EtcdFace
from townhall.face.grpc import Faces
from townhall.hub.hub import Hub, HubOptions
from townhall.model.errors import Damaged, EngineFailed, EngineFull, InvalidField, TownhallError
from townhall.ops.compacting import Compacting, start_compacting
from townhall.ops.compactor import ProcessCompactor
from townhall.ops.dns import dns_server
from townhall.ops.extension import Backups, Extended
from townhall.ops.faces import FACES
from townhall.ops.listen import why_not
from townhall.ops.metrics import dns_metrics, grpc_metrics, http_metrics, process_metrics
from townhall.ops.probing import probe_options, start_probes
from townhall.ops.ties import put_ties, ties_of
from townhall.ops.version import version
from townhall.serve.options import HttpOptions
from townhall.serve.server import HttpServer

if TYPE_CHECKING:
    from townhall.engine import Engine
    from townhall.face import Face
    from townhall.hub import Signer
    from townhall.ops.config import Effective
    from townhall.ops.consul_agent import ConsulAgent
    from townhall.ops.listen import Endpoint
    from townhall.ops.settings import Settings
    from townhall.probe.runner import Runner
    from townhall.serve.dns import DnsServer
    from townhall.serve.tls import Certificates

__all__ = ["Assembled", "CouldNotStart", "assemble", "http_options", "rules_of"]

_log = logging.getLogger(__name__)
_YOUNG_COLLECTIONS: Final = 50_000
"""New containers between two collections: most of what a request makes dies by reference count, so fewer, larger
collections find the same garbage."""
_OLD_COLLECTIONS: Final = 100
"""Collections of the middle generation between two that walk everything, which hold the loop longest."""


class CouldNotStart(TownhallError):
    """The registry cannot be started; the message names the option and says what to do."""

    code = "could_not_start"


@dataclass(slots=True)
class Assembled:
    """A registry that answers."""

    hub: Hub
    data: Path | None = None
    servers: dict[str, HttpServer] = field(default_factory=dict)
    dns: DnsServer | None = None
    addresses: dict[str, Endpoint] = field(default_factory=dict)
    """Where each face listens, with the port it was given."""
    certificates: Certificates | None = None
    backups: Backups | None = None
    consul_agent: ConsulAgent | None = None
    reload: Callable[[], None] = lambda: None
    """What SIGHUP does, once the process has set it."""
    probes: Runner | None = None
    compacting: Compacting | None = None

    async def stop(self, grace_ms: int) -> None:
        """Stop accepting, answer what is in flight, release what is parked, then sync and close. Idempotent."""
        if self.backups is not None:
            await self.backups.stop()
        if self.consul_agent is not None:
            await self.consul_agent.stop()
        for server in self.servers.values():
            await server.stop(grace_ms)
        self.servers.clear()
        if self.dns is not None:
            await self.dns.stop(grace_ms)
            self.dns = None
        if self.probes is not None:
            await self.probes.stop()
        if self.compacting is not None:
            await self.compacting.stop()
        await self.hub.stop()


async def assemble(effective: Effective, data: Path | None, *, node: str) -> Assembled:
    """Open the data (None keeps everything in memory), start the hub and listen. Raises ``CouldNotStart``."""
    settings = effective.settings
    certificates = _certificates(settings)
    try:
        probes = probe_options(settings.probe)
    except InvalidField as error:
        raise CouldNotStart(f"--probe-{error}") from error
    hub = _open_hub(settings, data, node)
    built = Assembled(hub, certificates=certificates, backups=Backups(hub, data), data=data)
    try:
        await built.hub.start()
        refused = await put_ties(hub, ties_of(settings.layouts))
        if refused is not None:
            raise CouldNotStart(f"--layouts-etcd-export: {refused}") from refused
        built.probes = start_probes(hub, probes)
        built.compacting = start_compacting(hub, settings.history)
        for name, where in effective.listeners.items():
            await _listen(built, settings, name, where)
    except BaseException:
        await built.stop(0)
        raise
    # What stands now stands for the life of the process: collections need not walk it again and again.
    gc.freeze()
    gc.set_threshold(_YOUNG_COLLECTIONS, 10, _OLD_COLLECTIONS)
    return built


def rules_of(settings: Settings) -> Rules:
    """What configuration changes about decisions."""
    lease, floor, capacity, access = settings.lease, settings.floor, settings.capacity, settings.access
    return Rules(
        lease_ttl_min_ms=lease.ttl_min_ms,
        lease_ttl_default_ms=lease.ttl_default_ms,
        eviction_grace_ttls=lease.eviction_grace_ttls,
        floor_instances_min=floor.instances_min,
        floor_window_ms=floor.window_ms,
        floor_hold_max_ms=floor.hold_max_ms,
        registry_floor=floor.registry,
        registry_floor_instances_min=floor.registry_instances_min,
        instances_count_max=capacity.instances_max,
        services_count_max=capacity.services_max,
        leases_count_max=capacity.leases_max,
        space_size_max=capacity.space_size_max,
        # Whoever hands out tokens by a file wants them asked for.
        access_required=access.required or bool(access.tokens_file),
    )


def http_options(settings: Settings) -> HttpOptions:
    """Limits of every HTTP listener."""
    http = settings.http
    return HttpOptions(
        connections_max=http.connections_max,
        connections_per_address_max=http.connections_per_address_max,
        parked_per_address_max=http.parked_per_address_max,
        header_timeout_ms=http.header_timeout_ms,
        body_timeout_ms=http.body_timeout_ms,
        idle_timeout_ms=http.idle_timeout_ms,
    )


def _open_hub(settings: Settings, data: Path | None, node: str) -> Hub:
    options = HubOptions(
        node=node,
        rules=rules_of(settings),
        snapshot_every_commits=settings.journal.snapshot_every_commits,
        snapshot_every_size=settings.journal.snapshot_every_size,
        report_hold_ms=settings.reports.hold_ms,
        deregister_critical_min_ms=settings.probe.deregister_min_ms,
        reap_interval_ms=settings.probe.reap_interval_ms,
        signers=_signers(settings),
    )
    engine: Engine
    if data is None:
        return Hub.open(MemoryEngine(), options)
    engine = FileEngine(data)
    try:
        hub = Hub.open(engine, options, compactor=ProcessCompactor(data))
    except (EngineFailed, EngineFull, Damaged) as error:
        # Most of them name the directory.
        where = "" if str(data) in error.message else f" {data}"
        raise CouldNotStart(f"--data{where}: {error}") from error
    if engine.torn_size:
        _log.warning(
            "dropped %d bytes of a write that a crash cut short; nothing acknowledged was in them", engine.torn_size
        )
    return hub


def _signers(settings: Settings) -> Mapping[str, Signer]:
    text = settings.access.etcd_auth_token
    if text in {"", "simple"}:
        return {}
    try:
        from townhall.ops.signing import signer_of  # noqa: PLC0415 - an extra that few need

        signer = signer_of(text)
    except ImportError as error:
        raise CouldNotStart("--access-etcd-auth-token: signed tokens need townhall[jwt]") from error
    except InvalidField as error:
        raise CouldNotStart(f"--{error.message}") from error
    return {} if signer is None else {SPACE: signer}


def _certificates(settings: Settings) -> Certificates | None:
    tls = settings.tls
    if not tls.cert:
        return None
    from townhall.serve.tls import Certificates, TlsOptions  # noqa: PLC0415 - OpenSSL is loaded only when it is used

    try:
        return Certificates(TlsOptions(cert_file=tls.cert, key_file=tls.key or tls.cert, client_ca_file=tls.client_ca))
    except InvalidField as error:
        option = "--tls-client-ca" if error.fields.get("field") == "client_ca_file" else "--tls-cert"
        raise CouldNotStart(f"{option}: {error.message.partition(': ')[2]}") from error


async def _listen(built: Assembled, settings: Settings, name: str, where: Endpoint) -> None:
    try:
        if name == "dns":
            site = _site(built, settings, built.addresses.get("consul", where))
            built.dns = dns_server(settings.names, built.hub, site)
            host, port = await built.dns.start(where.host, where.port)
        else:
            made = _face(built, settings, name, where)
            faces = made if isinstance(made, Faces) else Faces(None, made)
            server = HttpServer(faces.http, built.hub, http_options(settings), grpc=faces.grpc)
            context = None
            if built.certificates:
                context = built.certificates.mixed_context if faces.grpc else built.certificates.context
            host, port = await server.start(where.host, where.port, ssl=context)
            built.servers[name] = server
            if isinstance(faces.grpc, EtcdFace):
                faces.grpc.identity.listens(_client_url(built, where._replace(port=port)))
    except OSError as error:
        raise CouldNotStart(f"--{name} {where}: {why_not(error, name)}") from error
    except InvalidField as error:
        raise CouldNotStart(str(error)) from error
    built.addresses[name] = where._replace(host=host, port=port)


def _face(built: Assembled, settings: Settings, name: str, where: Endpoint) -> Face | Faces:
    """The face of the table, told what only this process can offer."""
    row = next(row for row in FACES if row.name == name)
    module, _, attribute = row.face.partition(":")
    make = getattr(importlib.import_module(module), attribute)
    if name == "etcd":
        faces = cast("Faces", make(_etcd_identity(built, settings, where)))
        assert faces.http is not None
        # An etcd's own page has them, and `etcdctl check datascale` reads the memory from there.
        return faces._replace(http=Extended(faces.http, process_metrics))

    def metrics() -> Iterator[str]:
        yield from http_metrics({face: server.counters for face, server in built.servers.items() if server.counters})
        yield from grpc_metrics(
            {face: server.grpc_counters for face, server in built.servers.items() if server.grpc_counters}
        )
        if built.dns is not None:
            yield from dns_metrics(built.dns.counters)
        yield from process_metrics()

    if name == "consul":
        from townhall.ops.consul_agent import ConsulAgent  # noqa: PLC0415 - only where this face is asked for

        def reload() -> None:
            built.reload()  # It is set when the process handles signals, after its listeners stand.

        site = _site(built, settings, where)
        built.consul_agent = ConsulAgent(built.hub, built.data, site, reload=reload, metrics=metrics)
        return cast("Face", make(site, built.consul_agent.routes()))
    if name != "native":
        return cast("Face | Faces", make(version()))
    assert built.backups is not None
    return Extended(make(version(), extra=(built.backups.operation(),), secure=built.certificates is not None), metrics)


def _site(built: Assembled, settings: Settings, where: Endpoint) -> Site:
    """What Consul's clients are told about this registry."""
    # A listener on all addresses says nothing about the one under which callers reach this machine.
    address = "127.0.0.1" if where.host in _UNSPECIFIED else where.host
    return Site(
        node=built.hub.options.node, datacenter=settings.node.datacenter, version=version(), address=address,
        script_checks=settings.probe.scripts,
    )  # fmt: skip


def _etcd_identity(built: Assembled, settings: Settings, where: Endpoint) -> Identity:
    """The member that etcd's clients see."""
    return identity(
        name=built.hub.options.node, datacenter=settings.node.datacenter, client_url=_client_url(built, where)
    )


def _client_url(built: Assembled, where: Endpoint) -> str:
    # A listener on all addresses says nothing about the one under which clients reach this machine.
    reached = where._replace(host="127.0.0.1") if where.host in _UNSPECIFIED else where
    return f"{'https' if built.certificates is not None else 'http'}://{reached}"


_UNSPECIFIED: Final = frozenset({"0.0.0.0", "::", "", "localhost"})  # noqa: S104 - looked for, not bound
