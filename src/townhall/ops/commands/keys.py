"""``townhall kv get|put|del|list|watch``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from townhall.ops.commands import Command
from townhall.ops.exits import FAILED, NOT_FOUND, complain
from townhall.ops.table import table
from townhall.ops.target import Target, add_target, print_json

if TYPE_CHECKING:
    from townhall.client.api import Registry
    from townhall.client.keys import KeySpace, PutOptions, RangeOptions

__all__ = ["COMMANDS"]


def _configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    commands = parser.add_subparsers(dest="action", required=True, metavar="get|put|del|list|watch")
    get = commands.add_parser("get", help="print the value of a key")
    get.add_argument("key", metavar="KEY")
    get.add_argument("--revision", type=int, metavar="N", help="as it was at this revision")
    put = commands.add_parser("put", help="write a key")
    put.add_argument("key", metavar="KEY")
    put.add_argument("value", nargs="?", metavar="VALUE", help="'-' or nothing reads it from standard input")
    put.add_argument(
        "--cas",
        type=int,
        metavar="REVISION",
        help="only if the key was last changed at this revision; 0: if it does not exist",
    )
    put.add_argument("--create", action="store_true", help="only if it does not exist")
    put.add_argument("--lease", metavar="LEASE", help="remove it when this lease ends")
    delete = commands.add_parser("del", help="remove a key, or all keys of a prefix")
    delete.add_argument("key", metavar="KEY")
    delete.add_argument("--prefix", action="store_true", help="all keys that begin with KEY")
    delete.add_argument("--cas", type=int, metavar="REVISION", help="only if the key was last changed at this revision")
    listing = commands.add_parser("list", help="list keys")
    listing.add_argument("key", nargs="?", default="", metavar="PREFIX")
    listing.add_argument("--limit", type=int, metavar="N", help="at most so many")
    listing.add_argument("--keys-only", action="store_true", help="leave out the values")
    watch = commands.add_parser("watch", help="print changes of keys as they come")
    watch.add_argument("key", nargs="?", default="", metavar="PREFIX")
    watch.add_argument("--after", type=int, metavar="REVISION", help="begin after this revision")
    for child in (get, put, delete, listing, watch):
        child.add_argument("--space", default="", metavar="NAME", help="keyspace; default 'native'")
        add_target(child)


def _run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_connected(Target.of(arguments), arguments))


async def _connected(target: Target, arguments: argparse.Namespace) -> int:
    async with target.registry() as registry:
        return await _ACTIONS[arguments.action](_space(registry, arguments.space), target, arguments)


def _space(registry: Registry, name: str) -> KeySpace:
    return registry.kv.space(name) if name else registry.kv


async def _get(space: KeySpace, target: Target, arguments: argparse.Namespace) -> int:
    if not target.json and arguments.revision is None:
        _write_raw(await space.get_raw(arguments.key))
        return 0
    found = await space.get(arguments.key, revision=arguments.revision)
    if target.json:
        print_json(found)
    else:
        import base64  # noqa: PLC0415 - rarely needed

        _write_raw(base64.b64decode(found.value_base64) if found.value is None else found.value.encode())
    return 0


def _write_raw(value: bytes) -> None:
    """The bytes as they are; a terminal gets a line end, a pipe exactly the value."""
    sys.stdout.buffer.write(value)
    if sys.stdout.isatty() and not value.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


async def _put(space: KeySpace, target: Target, arguments: argparse.Namespace) -> int:
    from_input = arguments.value is None or arguments.value == "-"
    value = sys.stdin.buffer.read() if from_input else arguments.value.encode("utf-8", "surrogateescape")
    options: PutOptions = {}
    if arguments.lease:
        options["lease"] = arguments.lease
    if arguments.cas is not None:
        options["cas"] = arguments.cas
    if arguments.create:
        options["create"] = True
    written = await space.put(arguments.key, value, **options)
    if target.json:
        print_json(written)
    else:
        sys.stdout.write(f"{arguments.key} at revision {written.revision}\n")
    return 0


async def _delete(space: KeySpace, target: Target, arguments: argparse.Namespace) -> int:
    if arguments.prefix:
        written = await space.delete_prefix(arguments.key)
    else:
        written = await space.delete(arguments.key, cas=arguments.cas)
    if target.json:
        print_json(written)
    elif written.deleted:
        sys.stdout.write(f"{written.deleted} removed at revision {written.revision}\n")
    return 0 if written.deleted or arguments.prefix else complain(f"there is no key {arguments.key}", NOT_FOUND)


async def _list(space: KeySpace, target: Target, arguments: argparse.Namespace) -> int:
    options: RangeOptions = {"keys_only": arguments.keys_only}
    if arguments.limit is not None:
        options["limit"] = arguments.limit
    found = await space.list(arguments.key, **options)
    if target.json:
        print_json(found.keys)
    elif arguments.keys_only:
        sys.stdout.write("".join(f"{one.key}\n" for one in found.keys))
    else:
        rows = [(one.key, _short(one.value), one.mod_revision, one.version, one.lease) for one in found.keys]
        sys.stdout.write(table(("key", "value", "revision", "version", "lease"), rows) + "\n")
    if found.more:
        complain(f"{found.count - len(found.keys)} more; raise --limit or name a longer prefix", 0)
    return 0


def _short(value: str | None) -> str:
    if value is None:
        return "(not text)"
    return value if len(value) <= 60 else value[:59] + "…"


async def _watch(space: KeySpace, target: Target, arguments: argparse.Namespace) -> int:
    async with await space.watch(arguments.key, after=arguments.after) as stream:
        async for name, content in stream.objects():
            _tell(target, name, content)
    return complain("the registry ended the watch", FAILED)


def _tell(target: Target, name: str, content: dict[str, Any]) -> None:
    if target.json:
        print_json({"event": name, **content}, lines=True)
    elif name == "put":
        sys.stdout.write(f"put {content['key']} {_short(content.get('value'))}\n")
    elif name == "delete":
        sys.stdout.write(f"delete {content['key']}\n")
    sys.stdout.flush()


_ACTIONS: Final[dict[str, Callable[[Any, Target, argparse.Namespace], Awaitable[int]]]] = {
    "get": _get, "put": _put, "del": _delete, "list": _list, "watch": _watch,
}  # fmt: skip

COMMANDS: Final = {"kv": Command(_configure, _run)}
