"""Checks as people write them on a command line or in a label.

=======================  =============================================================================
``http:/health``         GET at the service's own address and port; 2xx is well. Also ``https:/health``
``http://HOST:PORT/p``   the same elsewhere (``https://…``)
``tcp``, ``tcp:PORT``    it accepts a connection; ``tcp:HOST:PORT`` elsewhere
``grpc``, ``grpc:NAME``  gRPC's health service answers SERVING, for all or for one service; ``grpcs`` with TLS
``script:COMMAND …``     exit code 0 is well, 1 a warning
=======================  =============================================================================
"""

from __future__ import annotations

import shlex
from typing import Final

from msgspec.structs import replace

from townhall.agent.definitions import ADDRESS
from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckKind
from townhall.model.errors import InvalidField

__all__ = ["CHECK_FORMS", "check_of", "timing_of"]

CHECK_FORMS: Final = "http:/path, https:/path, http://host:port/path, tcp, tcp:port, grpc, grpc:name or script:command"


def check_of(text: str, *, port: int, timing: CheckDefinition, scripts: bool = False) -> CheckDefinition:
    """The check that a text stands for, with interval, timeout and thresholds of ``timing``. Raises InvalidField."""
    kind, _, rest = text.strip().partition(":")
    if len(text) > limits.CHECK_TARGET_SIZE_MAX:
        raise InvalidField("check", f"longer than {limits.CHECK_TARGET_SIZE_MAX} characters")
    if kind in ("http", "https"):
        return replace(timing, kind=CheckKind.HTTP, target=_url(text.strip(), kind, rest, port))
    if kind == "tcp":
        return replace(timing, kind=CheckKind.TCP, target=_tcp(rest, text, port))
    if kind in ("grpc", "grpcs"):
        target = f"{ADDRESS}:{_needed(port, text)}"
        return replace(timing, kind=CheckKind.GRPC, target=target, grpc_service=rest, tls=kind == "grpcs")
    if kind == "script":
        if not scripts:
            raise InvalidField("check", f"{text!r} would run a command", advice="allow it with --enable-scripts")
        try:
            arguments = tuple(shlex.split(rest))
        except ValueError as error:
            raise InvalidField("check", f"{text!r}: {error}") from error
        if not arguments:
            raise InvalidField("check", "script: needs a command", advice="for example 'script:/opt/check --quick'")
        return replace(timing, kind=CheckKind.SCRIPT, arguments=arguments)
    raise InvalidField("check", f"{text!r} is no check", advice=f"write {CHECK_FORMS}")


def _url(text: str, kind: str, rest: str, port: int) -> str:
    if rest.startswith("//"):
        return text
    if rest and not rest.startswith("/"):
        raise InvalidField("check", f"{text!r} must be {kind}:/path or {kind}://host:port/path")
    return f"{kind}://{ADDRESS}:{_needed(port, text)}{rest or '/'}"


def _tcp(rest: str, text: str, port: int) -> str:
    if not rest:
        return f"{ADDRESS}:{_needed(port, text)}"
    host, _, number = rest.rpartition(":")
    if not (number.isascii() and number.isdecimal() and 0 < int(number) <= limits.PORT_MAX):
        raise InvalidField("check", f"{text!r} must be tcp, tcp:port or tcp:host:port")
    return f"{host or ADDRESS}:{number}"


def _needed(port: int, text: str) -> int:
    if not port:
        raise InvalidField("check", f"{text!r} needs the service's port", advice="give one, or name host and port")
    return port


def timing_of(
    *, interval_ms: int, timeout_ms: int | None, failures: int, successes: int, deregister_after_ms: int = 0
) -> CheckDefinition:
    """Interval, timeout and thresholds, for ``check_of``. Raises InvalidField for what is out of bounds."""
    if not limits.AGENT_CHECK_INTERVAL_MIN_MS <= interval_ms <= limits.LEASE_TTL_MAX_MS:
        raise InvalidField("check-interval", f"must be at least {limits.AGENT_CHECK_INTERVAL_MIN_MS} ms")
    timeout_ms = min(interval_ms, limits.AGENT_CHECK_TIMEOUT_MS) if timeout_ms is None else timeout_ms
    if not 0 < timeout_ms <= limits.CHECK_TIMEOUT_MAX_MS:
        raise InvalidField("check-timeout", f"must lie between 1 and {limits.CHECK_TIMEOUT_MAX_MS} ms")
    return CheckDefinition(
        interval_ms=interval_ms,
        timeout_ms=timeout_ms,
        failures_before_critical=failures,
        success_before_passing=successes,
        deregister_after_ms=deregister_after_ms,
    )
