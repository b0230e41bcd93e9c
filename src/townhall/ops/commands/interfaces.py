"""``townhall interfaces``: what a service offers, by revision, who has which, and what differs between two."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from townhall.model.errors import NotFound, TownhallError
from townhall.ops.arguments import service
from townhall.ops.commands import Command
from townhall.ops.exits import NOT_FOUND, complain
from townhall.ops.table import table
from townhall.ops.target import Target, add_target, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from townhall.client.http import HttpClient
    from townhall.client.interface_store import InterfaceStore
    from townhall.client.interfaces import Interfaces
    from townhall.client.records import Instance
    from townhall.model.instance import ServiceKey

__all__ = ["COMMANDS"]

_NAMES_SHOWN_MAX: Final = 4
"""Instances that a line of the table names; ``--json`` names all."""


class _Revision(NamedTuple):
    """One revision of a service, the longest known first."""

    revision: str
    """'' for instances that name none."""
    instances: tuple[Instance, ...]
    document: Interfaces | None
    problem: str


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", type=service, metavar="SERVICE")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--show", metavar="REVISION", help="print this document; its first characters are enough")
    choice.add_argument(
        "--diff", nargs=2, metavar=("OLD", "NEW"), help="what differs between two revisions (first characters)"
    )
    add_target(parser)


def _run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_show(Target.of(arguments), arguments))


async def _show(target: Target, arguments: argparse.Namespace) -> int:
    from townhall.client.http import HttpClient  # noqa: PLC0415 - only by commands that need it
    from townhall.client.interface_store import InterfaceStore  # noqa: PLC0415

    key = target.key(arguments.service)
    async with target.registry() as registry, HttpClient() as http:
        found = await registry.instances(key)
        revisions = await _revisions(InterfaceStore(registry), http, found.instances)
    if not found.revision:
        return complain(f"there is no service {key}", NOT_FOUND)
    if arguments.show:
        sys.stdout.write(_one(revisions, arguments.show).data.decode() + "\n")
    elif arguments.diff:
        old, new = (_one(revisions, text) for text in arguments.diff)
        _tell_difference(target, old, new)
    elif target.json:
        print_json({"service": str(key), "revisions": [_row(one) for one in revisions]})
    else:
        _tell(key, revisions)
    return 0


async def _revisions(store: InterfaceStore, http: HttpClient, instances: Iterable[Instance]) -> list[_Revision]:
    from townhall.client.interface_book import fetch_from  # noqa: PLC0415 - as above
    from townhall.client.interfaces import revision_of  # noqa: PLC0415

    by_revision: dict[str, list[Instance]] = {}
    for one in sorted(instances, key=lambda one: (one.registered_at, one.id)):
        by_revision.setdefault(revision_of(one.metadata), []).append(one)
    rows = []
    for revision, holders in by_revision.items():
        document, problem = None, "they name no revision"
        if revision:
            try:
                document, problem = await fetch_from(store, http, revision, holders), ""
            except TownhallError as error:
                problem = error.message
        rows.append(_Revision(revision, tuple(holders), document, problem))
    return rows


def _one(revisions: Iterable[_Revision], text: str) -> Interfaces:
    """The document whose revision begins so. Raises ``NotFound`` when there is none, or more than one."""
    found = [one for one in revisions if one.revision.startswith(text) and one.revision and text]
    if len(found) != 1:
        many = f"{len(found)} revisions begin" if found else "no present instance has a revision that begins"
        raise NotFound(f"{many} with {text!r}", advice="'townhall interfaces SERVICE' lists them")
    if found[0].document is None:
        raise NotFound(f"the document {found[0].revision} cannot be had: {found[0].problem}")
    return found[0].document


def _row(one: _Revision) -> dict[str, Any]:
    document = one.document
    return {
        "revision": one.revision or None,
        "instances": [instance.id for instance in one.instances],
        "callable": sum(instance.callable for instance in one.instances),
        "methods": document.methods if document is not None else None,
        "documents": _documents(document) if document is not None else None,
        "problem": one.problem or None,
    }


def _documents(document: Interfaces) -> list[str]:
    return [part for part in ("openapi", "descriptor_set", "schemas") if getattr(document, part)]


def _tell(key: ServiceKey, revisions: list[_Revision]) -> None:
    rows = []
    for one in revisions:
        names = [instance.id for instance in one.instances[:_NAMES_SHOWN_MAX]]
        more = len(one.instances) - len(names)
        methods: int | str = "?" if one.document is None else len(one.document.methods)
        documents = [] if one.document is None else _documents(one.document)
        shown = names + ([f"and {more} more"] if more else [])
        callable_ = sum(instance.callable for instance in one.instances)
        rows.append((one.revision, callable_, len(one.instances), methods, documents, shown))
    sys.stdout.write(table(("revision", "callable", "instances", "methods", "documents", "who"), rows) + "\n")
    for one in revisions:
        if one.problem and one.revision:
            sys.stdout.write(f"{one.revision} cannot be had: {one.problem}\n")
    known = [one.document for one in revisions if one.document is not None]
    if len(known) == 2:
        sys.stdout.write(f"\nfrom the older to the newer of {key}:\n")
        _write_difference(*known)


def _tell_difference(target: Target, old: Interfaces, new: Interfaces) -> None:
    from townhall.client.interfaces import difference  # noqa: PLC0415 - as above

    if target.json:
        print_json(difference(old, new)._asdict())
    else:
        _write_difference(old, new)


def _write_difference(old: Interfaces, new: Interfaces) -> None:
    from townhall.client.interfaces import difference  # noqa: PLC0415 - as above

    found = difference(old, new)
    lines = [f"- {name}" for name in found.removed] + [f"+ {name}" for name in found.added]
    lines += [f"~ {part} differs" for part in found.changed]
    sys.stdout.write("\n".join(lines or ["no difference in what is offered"]) + "\n")


COMMANDS: Final = {"interfaces": Command(_configure, _run)}
