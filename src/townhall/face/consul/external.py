"""``/v1/catalog/register`` and ``deregister``: nodes, services and checks that no agent speaks for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from townhall.core import Command, Outcome
from townhall.core.commands import DeleteCheck, DeleteNode, Deregister, PutCheck, PutNode, Register
from townhall.core.queries import Reader
from townhall.face import Request, Submit, Verb
from townhall.face.consul.blocking import json_reply
from townhall.face.consul.bodies import Body, names
from townhall.face.consul.checks import CATALOG_CHECK, catalog_check
from townhall.face.consul.errors import bad
from townhall.face.consul.picture import Picture
from townhall.face.consul.requests import ReadOptions, check_datacenter, decode_body, read_options
from townhall.face.consul.services import CATALOG_SERVICE, Placed, again_at, register_command
from townhall.face.consul.shapes import EXTRA_ADDRESS
from townhall.model import names as rules
from townhall.model.access import Level, Resource
from townhall.model.check import Node
from townhall.model.errors import NotFound, TownhallError

__all__ = ["Externals", "node_command"]

_REGISTER = names(
    "Datacenter", "ID", "Node", "Address", "TaggedAddresses", "NodeMeta", "Service", "Check", "Checks", "SkipNodeUpdate",
    "Locality", "Namespace", "Partition", "PeerName", "WriteRequest", "Token",
)  # fmt: skip
_DEREGISTER = names(
    "Datacenter",
    "Node",
    "Address",
    "ServiceID",
    "CheckID",
    "Namespace",
    "Partition",
    "PeerName",
    "WriteRequest",
    "Token",
)
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class Externals:
    """Handlers that write the catalogue directly."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.site = picture.site

    def register(self, request: Request, reader: Reader) -> Verb:
        """A node, a service on it, and checks of either."""
        options = read_options(request, self.site)
        body = Body(decode_body(request), _REGISTER)
        check_datacenter(request, self.site, body.text("Datacenter"))
        node, address = body.text("Node"), body.text("Address")
        if not node:
            raise bad("Must provide node")
        skipped = body.flag("SkipNodeUpdate")
        if not address and not skipped:
            raise bad("Must provide address if SkipNodeUpdate is not set")
        known = self.picture.node(reader, node)
        if skipped:
            if known is None and not address:
                raise bad(f"Node lookup failed: {node} is not registered")
            address = known.address if known is not None else address
        commands: list[Command] = []
        if not skipped and node != self.site.node:
            described = node_command(body, node, rules.address(address))
            if not (_stands(known, described) and reader.may(Resource.NODE, Level.WRITE, node)):
                commands.append(described)
        commands += self._services(request, reader, body, node, address)
        if known is not None and not skipped and known.address != address and node != self.site.node:
            commands += self._moved(reader, node, address, commands)
        return _submit(commands, options)

    def _services(self, request: Request, reader: Reader, body: Body, node: str, address: str) -> list[Command]:
        service = body.child("Service", CATALOG_SERVICE)
        checks = list(body.children("Checks", CATALOG_CHECK))
        single = body.child("Check", CATALOG_CHECK)
        if single is not None:
            checks.append(single)
        register: Register | None = None
        name = id_ = ""
        commands: list[Command] = []
        if service is not None:
            name = service.text("Service")
            id_ = service.text("ID") or name
            if not name:
                if id_:
                    raise bad("Must provide service name (Service.Service) when service ID is provided")
                raise bad("Must provide service name (Service.Service)")
            placed = Placed(self.site, node=node, address=address, origin=request.peer, lenient=True)
            register = register_command(service, name, id_, placed)
        own: list[PutCheck] = []
        apart: list[PutCheck] = []
        for check in checks:
            about = check.text("ServiceID")
            if register is not None and about == id_:
                own.append(catalog_check(check, node, None, (register.key, register.id)))
                continue
            instance = self.picture.find(reader, node, about) if about else None
            if about and instance is None:
                raise bad(f"Unknown service ID '{about}' for check ID '{check.text('CheckID') or check.text('Name')}'")
            apart.append(catalog_check(check, node, instance, None))
        if register is not None:
            before = self.picture.find(reader, node, id_)
            commands.append(replace(register, checks=tuple(own)) if own else register)
            if before is not None and before.key != register.key:
                commands.append(Deregister(key=before.key, id=before.id))
        return [*commands, *apart]

    def _moved(self, reader: Reader, node: str, address: str, planned: Sequence[Command]) -> list[Command]:
        """What is called at its node's address is called at the new one from now on."""
        renewed = {command.id for command in planned if isinstance(command, Register)}
        return [
            again_at(instance, address)
            for instance in self.picture.on_node(reader, node)
            if EXTRA_ADDRESS in instance.extra and instance.id not in renewed
        ]

    def deregister(self, request: Request, reader: Reader) -> Verb:
        """A check, a service or a whole node; nothing there is as good as gone."""
        options = read_options(request, self.site)
        body = Body(decode_body(request), _DEREGISTER)
        check_datacenter(request, self.site, body.text("Datacenter"))
        node, service, check = body.text("Node"), body.text("ServiceID"), body.text("CheckID")
        if not node:
            raise bad("Must provide node")
        commands: list[Command] = []
        if service:
            instance = self.picture.find(reader, node, service)
            if instance is not None:
                commands.append(Deregister(key=instance.key, id=instance.id))
        elif check:
            commands.append(DeleteCheck(node=node, id=check))
        elif node != self.site.node:
            # A real agent would put its own node and services back at once; here others registered them.
            commands.append(DeleteNode(name=node))
        return _submit(commands, options)


def _stands(known: Node | None, described: PutNode) -> bool:
    """Whether nothing new is said of a node: agents send it along with each of their services."""
    return (
        known is not None
        and known.name == described.name
        and known.address == described.address
        and known.tagged_addresses == described.tagged_addresses
        and known.meta == described.meta
        and described.id in ("", known.id)
    )


def node_command(body: Body, node: str, address: str) -> PutNode:
    """A node as a registration or a transaction tells of it. Raises ``Misuse`` for an id that is none."""
    id_ = body.text("ID")
    if id_ and len(id_) != 36:
        raise bad("Bad node ID: uuid string is wrong length")
    if id_ and not _UUID.fullmatch(id_):
        raise bad("Bad node ID: uuid is improperly formatted")
    return PutNode(
        name=rules.label(node, "node"), id=id_.lower(), address=rules.address(address) if address else "",
        tagged_addresses=body.mapping("TaggedAddresses"), meta=body.mapping("NodeMeta") or body.mapping("Meta"),
    )  # fmt: skip


def _with_checks(register: Register, checks: Sequence[PutCheck]) -> Register:
    if not checks:
        return register
    fields = {name: getattr(register, name) for name in register.__struct_fields__}
    return Register(**{**fields, "checks": tuple(checks)})


def _submit(commands: Sequence[Command], options: ReadOptions) -> Verb:
    def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Verb:
        for outcome in outcomes:
            if isinstance(outcome, TownhallError) and not isinstance(outcome, NotFound):
                raise outcome
        return json_reply(reader, options, True)

    return Submit(commands, render)
