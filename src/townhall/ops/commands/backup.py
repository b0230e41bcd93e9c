"""``townhall backup FILE`` and ``townhall restore FILE --data DIR``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Final

from townhall.ops.commands import Command
from townhall.ops.exits import FAILED, complain
from townhall.ops.target import Target, add_target

__all__ = ["COMMANDS"]


def _configure_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="where to write it; must not exist")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="read this data directory, of a running or stopped registry, instead of asking a server",
    )
    add_target(parser)


def _backup(arguments: argparse.Namespace) -> int:
    if arguments.data:
        return _backup_directory(Path(arguments.data), Path(arguments.file))
    if os.path.exists(arguments.file):
        return complain(f"{arguments.file} exists already; name a new file", FAILED)
    return asyncio.run(_backup_server(Target.of(arguments), Path(arguments.file)))


def _backup_directory(data: Path, file: Path) -> int:
    from townhall.engine.backup import backup  # noqa: PLC0415 - server code

    stock = backup(data, file)
    sys.stdout.write(f"{file}: backup at position {stock.tail}\n")
    return 0


async def _backup_server(target: Target, file: Path) -> int:
    """Fetch it; the file appears whole or not at all."""
    partial = file.with_name(file.name + ".partial")
    size = 0
    try:
        # It holds every key and the hashes of all secrets: for its owner's eyes alone, as the data directory.
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            async with target.registry() as registry:
                async for piece in registry.backup():
                    size += len(piece)
                    out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        partial.rename(file)
    except OSError as error:
        return complain(f"{file}: {error.strerror or error}", FAILED)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    sys.stdout.write(f"{file}: backup of {size} bytes\n")
    return 0


def _configure_restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a backup, or what `etcdctl snapshot save` wrote")
    parser.add_argument(
        "--data",
        metavar="DIR",
        required=True,
        help="the data directory to make; must be absent or empty, and not in use",
    )


def _restore(arguments: argparse.Namespace) -> int:
    from townhall.engine.backup import restore  # noqa: PLC0415 - server code
    from townhall.ops.space_restore import is_space_backup, restore_space  # noqa: PLC0415 - server code

    file, data = Path(arguments.file), Path(arguments.data)
    try:
        if is_space_backup(file):
            keys, leases, users = restore_space(file, data)
            brought = f"{keys} keys, {leases} leases and {users} users of etcd's clients"
        else:
            brought = f"at position {restore(file, data).tail}"
    except OSError as error:
        return complain(f"{file}: {error.strerror or error}", FAILED)
    sys.stdout.write(f"{data}: restored {brought}; start it with: townhall up --data {data}\n")
    return 0


COMMANDS: Final = {
    "backup": Command(_configure_backup, _backup),
    "restore": Command(_configure_restore, _restore),
}
