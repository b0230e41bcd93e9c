"""The part of Consul's transactions that is about nodes, services and checks.

As with keys (``txn_kv``), the operations are run over what is there, each seeing those before it; what comes out is one
command for each thing that is to be different, and for all that was looked at the revision it had. The core does all
of it in one commit, or nothing when something has changed meanwhile, and then it is run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from townhall.core import Command
from townhall.core.commands import DeleteCheck, DeleteNode, Deregister, Expected, PutCheck, PutNode, Register
from townhall.core.queries import Reader
from townhall.face.consul.bodies import Body
from townhall.face.consul.checks import catalog_check
from townhall.face.consul.external import node_command
from townhall.face.consul.permission import lacks
from townhall.face.consul.picture import Picture, instance_name
from townhall.face.consul.services import Placed, register_command
from townhall.face.consul.shapes import check_object, health_service, node_object
from townhall.model.access import Level, Resource
from townhall.model.check import Check
from townhall.model.errors import Misuse
from townhall.model.instance import DEFAULT_GROUP, DEFAULT_NAMESPACE, Instance, ServiceKey

__all__ = ["KINDS", "READING", "CatalogOperation", "CatalogTrial"]

KINDS = ("Node", "Service", "Check")
READING = "get"
_VERBS = frozenset({"get", "set", "cas", "delete", "delete-cas"})
Row = Callable[[Reader], dict[str, object] | None]
"""One result, made when the commit has given its indexes; None when it is not there or may not be seen."""


class CatalogOperation(msgspec.Struct, frozen=True):
    """One operation on the catalogue."""

    kind: str
    verb: str
    body: Body
    """The node, service or check."""
    node: str

    @property
    def id(self) -> str:
        """The id of the service or check; Consul takes the name for it when there is none."""
        body = self.body
        if self.kind == "Service":
            return body.text("ID") or body.text("Service")
        return body.text("CheckID") or body.text("Name")

    @property
    def index(self) -> int:
        """What ``cas`` compares."""
        return self.body.integer("ModifyIndex")


class _Refused(Exception):
    """The operation fails, and with it the transaction."""


class CatalogTrial:
    """One run of the operations over the present catalogue."""

    def __init__(self, picture: Picture, reader: Reader, *, origin: str) -> None:
        self._picture = picture
        self._site = picture.site
        self._reader = reader
        self._origin = origin
        self._ended: set[str] = set()
        self._nodes: dict[str, PutNode | None] = {}
        self._services: dict[tuple[str, str], Register | None] = {}
        self._checks: dict[tuple[str, str], PutCheck | None] = {}
        self._expected: dict[tuple[str, str, str], Expected] = {}

    def perform(self, operation: CatalogOperation) -> tuple[Row | None, str]:
        """Run one operation: what it answers, and why it fails ("" when it does not)."""
        if operation.verb not in _VERBS:
            return None, f"unknown {operation.kind.lower()} operation: {operation.verb}"
        try:
            return _KINDS[operation.kind](self, operation), ""
        except _Refused as refused:
            return None, str(refused)
        except Misuse as misuse:
            return None, misuse.message

    def commands(self) -> list[Command]:
        """What is to be different: ends of nodes first, then nodes, ends of services, services, and checks."""
        found: list[Command] = []
        ended = {name for name in self._ended if self._nodes[name] is None}
        found += [DeleteNode(name=name) for name in sorted(ended) if self._reader.state.book.present(name)]
        found += [node for node in self._nodes.values() if node is not None]
        registers: dict[tuple[ServiceKey, str], Register] = {}
        for (node, id_), register in self._services.items():
            before = None if node in ended else self.standing(node, id_)
            if before is not None and (register is None or before.key != register.key):
                found.append(Deregister(key=before.key, id=before.id))
            if register is not None:
                registers[register.key, register.id] = register
        for (node, id_), check in self._checks.items():
            if check is None:
                if node not in ended and (node, id_) in self._reader.state.checks and not self._goes(node, id_):
                    found.append(DeleteCheck(node=node, id=id_))
                continue
            own = registers.get((check.key, check.instance)) if check.key is not None else None
            if own is None:
                found.append(check)
            else:
                registers[own.key, own.id] = msgspec.structs.replace(own, checks=(*own.checks, check))
        return [*found, *registers.values()]

    def expected(self) -> tuple[Expected, ...]:
        """What was looked at, as it was."""
        return tuple(self._expected.values())

    # --- looking

    def _goes(self, node: str, check: str) -> bool:
        """Whether a check goes with the instance that it is about."""
        standing = self._reader.state.checks[node, check]
        return any(
            register is None and standing.instance == instance_name(self._site, on, id_)
            for (on, id_), register in self._services.items()
            if on == node
        )

    def standing(self, node: str, id_: str) -> Instance | None:
        """The instance that stands under this id, whoever may see it."""
        name = instance_name(self._site, node, id_)
        key = self._reader.node_place(node, name)
        if key is None or key[:2] != (DEFAULT_NAMESPACE, DEFAULT_GROUP):
            return None
        return self._reader.state.services[key].instances[name]

    def node(self, name: str) -> int | None:
        """The index of a node: 0 for one that this transaction has written, None when there is none."""
        if name in self._nodes:
            return None if self._nodes[name] is None else 0
        found = self._reader.state.nodes.get(name)
        if name == self._site.node:
            return 1 if found is None else found.revision + 1
        self._expected[name, "", ""] = Expected(node=name, revision=found.revision if found else 0)
        return None if found is None else found.revision + 1

    def service(self, node: str, id_: str) -> int | None:
        """The index of a service on a node, likewise."""
        if (node, id_) in self._services:
            return None if self._services[node, id_] is None else 0
        if node in self._ended:
            return None
        found = self.standing(node, id_)
        name = instance_name(self._site, node, id_)
        self._expected[node, "", name] = Expected(node=node, instance=name, revision=found.revision if found else 0)
        return None if found is None else found.revision + 1

    def check(self, node: str, id_: str) -> int | None:
        """The index of a check, likewise."""
        if (node, id_) in self._checks:
            return None if self._checks[node, id_] is None else 0
        if node in self._ended:
            return None
        found = self._reader.state.checks.get((node, id_))
        if found is not None and self._goes(node, id_):
            return None
        self._expected[node, id_, ""] = Expected(node=node, check=id_, revision=found.revision if found else 0)
        return None if found is None else found.revision + 1

    # --- writing

    def put_node(self, operation: CatalogOperation) -> None:
        """Make or replace a node. The server's own stays what it is."""
        if operation.node != self._site.node:
            self._nodes[operation.node] = node_command(operation.body, operation.node, operation.body.text("Address"))

    def end_node(self, name: str) -> None:
        """Take a node out, with what is on it and what this transaction put there."""
        if name == self._site.node:
            raise _Refused("the server's own node stays")
        self._nodes[name] = None
        self._ended.add(name)
        self._services = {place: one for place, one in self._services.items() if place[0] != name}
        self._checks = {place: one for place, one in self._checks.items() if place[0] != name}
        # Should the node be put again, what is on it now goes one by one.
        book = self._reader.state.book
        for key, id_ in book.instances.get(name, ()):
            if key[:2] == (DEFAULT_NAMESPACE, DEFAULT_GROUP):
                self._services[name, id_.removeprefix(f"{name}/")] = None
        for place in book.node_level.get(name, ()):
            self._checks[place] = None

    def put_service(self, operation: CatalogOperation) -> None:
        """Make or replace a service."""
        body, name = operation.body, operation.body.text("Service")
        if not name:
            more = " when service ID is provided" if operation.id else ""
            raise _Refused(f"Must provide service name (Service.Service){more}")
        if self.node(operation.node) is None:
            raise _Refused("Missing node registration")
        weights = body.child("Weights", None)
        if weights is not None and not weights.integer("Passing") and not weights.integer("Warning"):
            body = body.without("Weights")  # As Go's client sends nothing at all.
        node = self._nodes.get(operation.node)
        standing = self._picture.node(self._reader, operation.node)
        address = node.address if node is not None else standing.address if standing is not None else ""
        placed = Placed(self._site, node=operation.node, address=address, origin=self._origin)
        self._services[operation.node, operation.id] = register_command(body, name, operation.id, placed)

    def put_check(self, operation: CatalogOperation) -> None:
        """Make or replace a check."""
        node, service = operation.node, operation.body.text("ServiceID")
        if self.node(node) is None:
            raise _Refused("Missing node registration")
        own: tuple[object, str] | None = None
        if service:
            if self.service(node, service) is None:
                raise _Refused("Missing service registration")
            register, standing = self._services.get((node, service)), self.standing(node, service)
            one = register or standing
            assert one is not None
            own = (one.key, one.id)
        self._checks[node, operation.id] = catalog_check(operation.body, node, None, own)

    def end_service(self, node: str, id_: str) -> None:
        """Take a service out, with its checks."""
        name = instance_name(self._site, node, id_)
        self._services[node, id_] = None
        self._checks = {
            place: one for place, one in self._checks.items() if place[0] != node or one is None or one.instance != name
        }

    def end_check(self, node: str, id_: str) -> None:
        """Take a check out."""
        self._checks[node, id_] = None

    # --- answering

    def require(self, resource: Resource, name: str) -> None:
        """Raise unless the actor may write it."""
        if not self._reader.may(resource, Level.WRITE, name):
            raise _Refused(lacks(self._reader, resource, Level.WRITE, name.rpartition("/")[2]))

    def require_check(self, op: CatalogOperation) -> None:
        """Raise unless the actor may write the service, or the node, that a check is about."""
        standing = self._reader.state.checks.get((op.node, op.id))
        service = op.body.text("ServiceID")
        register, found = self._services.get((op.node, service)), self.standing(op.node, service)
        about = [one.key for one in (register, found, standing) if one is not None and one.key is not None]
        if not about:
            self.require(Resource.NODE, op.node)
        for key in about:
            self.require(Resource.SERVICE, _right(key))

    def show_node(self, name: str) -> Row:
        """A node as it is after the commit."""

        def show(reader: Reader) -> dict[str, object] | None:
            node = self._picture.node(reader, name)
            return None if node is None else {"Node": node_object(node, self._site)}

        return show

    def show_service(self, node: str, id_: str) -> Row:
        """A service as it is after the commit."""

        def show(reader: Reader) -> dict[str, object] | None:
            key = reader.node_place(node, instance_name(self._site, node, id_))
            if key is None or not reader.may(Resource.SERVICE, Level.READ, _right(key)):
                return None
            shown = health_service(reader.instance(key, instance_name(self._site, node, id_)), self._site)
            return {"Service": shown | {"Tags": shown["Tags"] or None}}

        return show

    def show_check(self, node: str, id_: str) -> Row:
        """A check as it is after the commit."""

        def show(reader: Reader) -> dict[str, object] | None:
            found = next((check for check in reader.checks_of_node(node) if check.id == id_), None)
            return None if found is None else {"Check": self._check(reader, found)}

        return show

    def _check(self, reader: Reader, check: Check) -> Mapping[str, Any]:
        instance = reader.instance(check.key, check.instance) if check.key is not None else None
        shown = check_object(check, instance, self._site)
        return shown | {"ServiceTags": shown["ServiceTags"] or None}


def _right(key: ServiceKey) -> str:
    return f"{key.namespace}/{key.group}/{key.name}"


def _stale(index: int | None, wanted: int) -> bool:
    """Whether a write on the condition of an index (0: that it is not there) has lost."""
    return (index or 0) != wanted if index is None or wanted else True


def _compare(op: CatalogOperation, index: int | None, what: str) -> None:
    """Refuse a compare-and-set or -delete that was meant for another state than there is."""
    if op.verb in ("cas", "delete-cas") and (_stale(index, op.index) or (op.verb == "delete-cas" and index is None)):
        raise _Refused(f"failed to {'set' if op.verb == 'cas' else 'delete'} {what}, index is stale")


def _node(trial: CatalogTrial, op: CatalogOperation) -> Row | None:
    name = op.node
    wanted = op.body.text("ID").lower()
    if op.verb == READING:
        if wanted:
            found = (node.name for node in trial._picture.nodes(trial._reader) if node.id == wanted)
            name = next(found, "")
        if trial.node(name) is None:
            raise _Refused(f'node "{op.node}" doesn\'t exist')
        return trial.show_node(name)
    if not name:
        raise _Refused("Must provide node")
    trial.require(Resource.NODE, name)
    _compare(op, trial.node(name), f'node "{name}"')
    if op.verb in ("set", "cas"):
        trial.put_node(op)
        return trial.show_node(name)
    trial.end_node(name)
    return None


def _service(trial: CatalogTrial, op: CatalogOperation) -> Row | None:
    what = f'service "{op.id}" on node "{op.node}"'
    index = trial.service(op.node, op.id)
    if op.verb == READING:
        if index is None:
            raise _Refused(f"{what} doesn't exist")
        return trial.show_service(op.node, op.id)
    standing = trial.standing(op.node, op.id)
    for name in {op.body.text("Service"), standing.key.name if standing is not None else ""} - {""}:
        trial.require(Resource.SERVICE, f"{DEFAULT_NAMESPACE}/{DEFAULT_GROUP}/{name}")
    _compare(op, index, what)
    if op.verb in ("set", "cas"):
        trial.put_service(op)
        return trial.show_service(op.node, op.id)
    if index is not None:
        trial.end_service(op.node, op.id)
    return None


def _check(trial: CatalogTrial, op: CatalogOperation) -> Row | None:
    what = f'check "{op.id}" on node "{op.node}"'
    index = trial.check(op.node, op.id)
    if op.verb == READING:
        if index is None:
            raise _Refused(f"{what} doesn't exist")
        return trial.show_check(op.node, op.id)
    _compare(op, index, what)
    trial.require_check(op)
    if op.verb in ("set", "cas"):
        trial.put_check(op)
        return trial.show_check(op.node, op.id)
    if index is not None:
        trial.end_check(op.node, op.id)
    return None


_KINDS: Mapping[str, Callable[[CatalogTrial, CatalogOperation], Row | None]] = {
    "Node": _node, "Service": _service, "Check": _check,
}  # fmt: skip
