"""A pytest plugin for the clients' own suites: aims them, skips what ``skips.json`` names, and prints TAP.

Some of their tests connect to the client's default port; the defaults are moved to the server under test.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SKIPS: dict[str, str] = json.loads(Path(os.environ["TOWNHALL_SKIPS"]).read_text())[os.environ["TOWNHALL_SUITE"]]
HOST, _, PORT = os.environ["TOWNHALL_ETCD"].rpartition(":")
EXAMPLES = 10
_reported: list[str] = []


def aim(function: Callable[..., Any]) -> None:
    """Give the parameters host and port of a function the server's address as their defaults."""
    given = {"host": HOST, "port": int(PORT)}
    named = [each for each in inspect.signature(function).parameters.values() if each.default is not each.empty]
    kinds = [(each.name, each.default) for each in named if each.kind is each.POSITIONAL_OR_KEYWORD]
    function.__defaults__ = tuple(given.get(name, default) for name, default in kinds)  # type: ignore[attr-defined]
    if function.__kwdefaults__:
        function.__kwdefaults__.update({name: given[name] for name in given if name in function.__kwdefaults__})


def pytest_configure() -> None:
    if os.environ["TOWNHALL_SUITE"] == "etcd3-py":
        from tests import docker_cli  # noqa: PLC0415 - the suite's own, which would start its server in a container

        docker_cli.docker_run_etcd_main = lambda: (None, int(PORT), None)
        return
    with contextlib.suppress(ImportError):
        import etcd3  # noqa: PLC0415 - each suite has only its own client

        aim(etcd3.client)
        aim(etcd3.Etcd3Client.__init__)
    with contextlib.suppress(ImportError):
        import aetcd  # noqa: PLC0415

        aim(aetcd.Client.__init__)


def ease(item: pytest.Item) -> None:
    """Let a test of hypothesis share its fixture, as its authors did, and run few examples: each runs etcdctl."""
    function = getattr(getattr(item, "obj", None), "__func__", None)
    if getattr(function, "is_hypothesis_test", False):
        from hypothesis import HealthCheck, settings  # noqa: PLC0415

        settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))(function)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        ease(item)
        reason = SKIPS.get(item.nodeid) or SKIPS.get(item.nodeid.partition("[")[0])
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or (report.when == "setup" and not report.passed) or report.failed:
        reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
        number = len(_reported) + 1
        word = "not ok" if report.failed else "ok"
        _reported.append(f"{word} {number} - {report.nodeid}" + (f" # SKIP {reason}" if report.skipped else ""))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.ensure_newline()
    for line in _reported:
        terminalreporter.write_line(line)
