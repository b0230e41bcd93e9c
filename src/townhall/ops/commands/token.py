"""``townhall token``: bootstrap, create, list and revoke tokens; put, list and delete policies."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from townhall.ops.arguments import duration_ms
from townhall.ops.commands import Command
from townhall.ops.table import ago, table
from townhall.ops.target import Target, add_target, print_json

if TYPE_CHECKING:
    from townhall.client.access import Access

__all__ = ["COMMANDS", "rule"]

_RESOURCES: Final = ("service", "key", "session", "agent", "operator")
_NAMES: Final = {
    "service": "namespace/group/name, such as default/default/web",
    "key": "space/key, such as native/config/*",
}
_LEVELS: Final = ("read", "write", "deny")


def rule(text: str) -> dict[str, Any]:
    """``RESOURCE:LEVEL:NAME``; a name that ends with ``*`` is a prefix, none means everything of the resource."""
    resource, _, rest = text.partition(":")
    level, _, name = rest.partition(":")
    if resource not in _RESOURCES or level not in _LEVELS:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be RESOURCE:LEVEL:NAME with one of {', '.join(_RESOURCES)} and one of {', '.join(_LEVELS)}"
        )
    prefix = not name or name.endswith("*")
    form = _NAMES.get(resource)
    if form and not prefix and "/" not in name:
        raise argparse.ArgumentTypeError(f"{text!r} would match nothing: a {resource} is named {form}")
    return {"resource": resource, "level": level, "name": name.removesuffix("*"), "prefix": prefix}


def _configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    commands = parser.add_subparsers(
        dest="action", required=True, metavar="bootstrap|create|list|revoke|policy|policies|delete-policy"
    )
    children = [
        commands.add_parser("bootstrap", help="switch access control on and print the first, all-powerful token"),
        _configure_create(commands.add_parser("create", help="make a token and print its secret")),
        commands.add_parser("list", help="list tokens; secrets are never shown again"),
        _with(commands.add_parser("revoke", help="make a token worthless"), "id", "ID"),
        _configure_policy(commands.add_parser("policy", help="make or replace a policy")),
        commands.add_parser("policies", help="list policies"),
        _with(commands.add_parser("delete-policy", help="remove a policy"), "name", "NAME"),
    ]
    for child in children:
        add_target(child)


def _with(parser: argparse.ArgumentParser, name: str, metavar: str) -> argparse.ArgumentParser:
    parser.add_argument(name, metavar=metavar)
    return parser


def _configure_create(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "--policy", action="append", default=[], metavar="NAME", help="policy that it carries; repeat for more"
    )
    parser.add_argument("--description", default="", metavar="TEXT")
    parser.add_argument("--ttl", type=duration_ms, metavar="TIME", help="worthless after this; default never")
    parser.add_argument("--management", action="store_true", help="may do everything")
    return parser


def _configure_policy(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "--rule",
        action="append",
        required=True,
        type=rule,
        metavar="RESOURCE:LEVEL:NAME",
        help="such as service:write:default/default/web*",
    )
    parser.add_argument("--description", default="", metavar="TEXT")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_connected(Target.of(arguments), arguments))


async def _connected(target: Target, arguments: argparse.Namespace) -> int:
    async with target.registry() as registry:
        await _ACTIONS[arguments.action](registry.access, target, arguments)
    return 0


async def _bootstrap(access: Access, target: Target, arguments: argparse.Namespace) -> None:
    _show_secret(target, await access.bootstrap())


async def _create(access: Access, target: Target, arguments: argparse.Namespace) -> None:
    content: dict[str, Any] = {
        "policies": arguments.policy,
        "description": arguments.description,
        "management": arguments.management,
    }
    if arguments.ttl:
        content["ttl_ms"] = arguments.ttl
    _show_secret(target, await access.create_token(content))


def _show_secret(target: Target, made: Mapping[str, Any]) -> None:
    if target.json:
        print_json(made)
        return
    token = made.get("token")
    token_id = made.get("id") or (token.get("id") if isinstance(token, Mapping) else "")
    sys.stdout.write(f"id:     {token_id}\nsecret: {made.get('secret')}\n")
    sys.stderr.write("townhall: the secret is shown this once; give it to clients as TOWNHALL_TOKEN\n")


async def _list(access: Access, target: Target, arguments: argparse.Namespace) -> None:
    tokens = _rows(await access.tokens(), "tokens")
    if target.json:
        print_json(tokens)
        return
    now_ms = int(time.time() * 1_000)
    rows = [
        (
            one["id"],
            "everything" if one.get("management") else one.get("policies", ()),
            _expiry(one, now_ms),
            one.get("description", ""),
        )
        for one in tokens
    ]
    sys.stdout.write(table(("id", "policies", "expires", "description"), rows) + "\n")


def _expiry(token: Mapping[str, Any], now_ms: int) -> str:
    expires_at = token.get("expires_at") or 0
    if not expires_at:
        return "never"
    return "expired" if expires_at <= now_ms else f"in {ago(now_ms, now_ms=expires_at)}"


async def _revoke(access: Access, target: Target, arguments: argparse.Namespace) -> None:
    await access.delete_token(arguments.id)


async def _policy(access: Access, target: Target, arguments: argparse.Namespace) -> None:
    made = await access.put_policy(arguments.name, arguments.rule, description=arguments.description)
    if target.json:
        print_json(made)


async def _policies(access: Access, target: Target, arguments: argparse.Namespace) -> None:
    policies = _rows(await access.policies(), "policies")
    if target.json:
        print_json(policies)
        return
    rows = [
        (one["name"], [_rule_text(item) for item in one.get("rules", ())], one.get("description", ""))
        for one in policies
    ]
    sys.stdout.write(table(("name", "rules", "description"), rows) + "\n")


def _rule_text(content: Mapping[str, Any]) -> str:
    star = "*" if content.get("prefix") else ""
    return f"{content['resource']}:{content['level']}:{content.get('name', '')}{star}"


async def _delete_policy(access: Access, target: Target, arguments: argparse.Namespace) -> None:
    await access.delete_policy(arguments.name)


def _rows(answer: object, name: str) -> Sequence[Mapping[str, Any]]:
    """A list answer, bare or under its name."""
    rows = answer.get(name) if isinstance(answer, Mapping) else answer
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


_ACTIONS: Final[dict[str, Callable[[Any, Target, argparse.Namespace], Awaitable[None]]]] = {
    "bootstrap": _bootstrap, "create": _create, "list": _list, "revoke": _revoke,
    "policy": _policy, "policies": _policies, "delete-policy": _delete_policy,
}  # fmt: skip

COMMANDS: Final = {"token": Command(_configure, _run)}
