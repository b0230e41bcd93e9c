"""A command on this machine, only when the operator enabled them: exit code 0 passing, 1 warning, else critical."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckStatus
from townhall.probe import Finding, Ground
from townhall.probe.connection import failed

__all__ = ["probe_script"]

_WARNING_CODE = 1


async def probe_script(definition: CheckDefinition, ground: Ground) -> Finding:
    """Run it without a shell, in a process group of its own that ends with the timeout."""
    if not definition.arguments:
        return failed("the check names no command")
    try:
        process = await asyncio.create_subprocess_exec(
            *definition.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=limits.PROBE_READ_SIZE_MAX,
        )
    except (OSError, ValueError) as error:
        return failed(str(error))
    try:
        async with asyncio.timeout(ground.timeout_ms / 1000):
            output = await _output(process)
            code = await process.wait()
    except TimeoutError:
        return failed(f"Timed out ({ground.timeout_ms} ms) running check")
    finally:
        # Whatever it started goes with it; the group is ours alone.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    text = output.decode("utf-8", "replace")
    if code == 0:
        return Finding(CheckStatus.PASSING, text)
    return Finding(CheckStatus.WARNING if code == _WARNING_CODE else CheckStatus.CRITICAL, text)


async def _output(process: asyncio.subprocess.Process) -> bytes:
    """The first bytes of what it writes; the rest is read and dropped, so that it does not block."""
    assert process.stdout is not None
    kept = b""
    while more := await process.stdout.read(limits.CHECK_OUTPUT_SIZE_MAX):
        kept = (kept + more)[: limits.CHECK_OUTPUT_SIZE_MAX]
    return kept
