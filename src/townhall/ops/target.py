"""Which registry a client command talks to: ``--server``, ``--token``, ``--namespace``, ``--group``, ``--timeout``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from townhall.model.errors import InvalidField
from townhall.model.instance import ServiceKey
from townhall.ops.arguments import duration_ms

if TYPE_CHECKING:
    from townhall.client.api import Registry

__all__ = ["SERVER_DEFAULT", "Target", "add_target", "print_json"]

SERVER_DEFAULT: Final = "http://127.0.0.1:7500"
_TIMEOUT_DEFAULT_MS: Final = 10_000
"""A command that a person waits for gives up after this; a restart of a large registry takes less."""


class Target(NamedTuple):
    """Where requests go and on whose behalf."""

    server: str
    token: str
    namespace: str
    group: str
    timeout_ms: int
    json: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Target:
        """From the options, then the environment, then defaults. Raises ``InvalidField`` for a bad TOWNHALL_SERVER."""
        given = vars(arguments)
        server = given.get("server") or environ.get("TOWNHALL_SERVER") or SERVER_DEFAULT
        try:
            _server(server)
        except argparse.ArgumentTypeError as error:
            raise InvalidField("TOWNHALL_SERVER", str(error)) from error
        return cls(
            server=server,
            token=given.get("token") or environ.get("TOWNHALL_TOKEN", ""),
            namespace=given.get("namespace") or environ.get("TOWNHALL_NAMESPACE") or "default",
            group=given.get("group") or environ.get("TOWNHALL_GROUP") or "default",
            timeout_ms=given.get("timeout", _TIMEOUT_DEFAULT_MS),
            json=given.get("json", False),
        )

    def key(self, name: str) -> ServiceKey:
        """The service that a name on the command line stands for; ``namespace/group/name`` gives all three parts."""
        parts = name.split("/")
        return ServiceKey(*parts) if len(parts) == 3 else ServiceKey(self.namespace, self.group, name)

    def registry(self) -> Registry:
        """The SDK's client; used inside the event loop that closes it."""
        from townhall.client.api import Registry  # noqa: PLC0415 - asyncio is imported only by commands that need it

        return Registry(self.server, token=self.token, namespace=self.namespace, budget_s=self.timeout_ms / 1_000)


def add_target(parser: argparse.ArgumentParser) -> None:
    """The options of every client command. Absent ones leave no trace, so that they may stand before a sub-command."""
    group = parser.add_argument_group("registry")
    absent = argparse.SUPPRESS
    group.add_argument(
        "--server", metavar="URL", type=_server, default=absent, help=f"TOWNHALL_SERVER, default {SERVER_DEFAULT}"
    )
    group.add_argument("--token", metavar="SECRET", default=absent, help="access token (better: TOWNHALL_TOKEN)")
    group.add_argument("--namespace", metavar="NAME", default=absent, help="TOWNHALL_NAMESPACE, default 'default'")
    group.add_argument("--group", metavar="NAME", default=absent, help="TOWNHALL_GROUP, default 'default'")
    group.add_argument(
        "--timeout", metavar="TIME", type=duration_ms, default=absent, help="give up after this; default 10s"
    )
    group.add_argument("--json", action="store_true", default=absent, help="print what the registry answers, as JSON")


def print_json(value: object, *, lines: bool = False) -> None:
    """Write a value of the SDK as JSON: indented for a whole answer, or one compact line of a stream."""
    import msgspec  # noqa: PLC0415 - kept off the way of --help

    text = msgspec.json.encode(value)
    sys.stdout.write((text if lines else msgspec.json.format(text, indent=2)).decode() + "\n")
    sys.stdout.flush()


def _server(text: str) -> str:
    for url in text.split(","):
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise argparse.ArgumentTypeError(f"{text!r} must be http://HOST:PORT or https://HOST:PORT")
    return text
