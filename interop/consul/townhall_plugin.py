"""pytest plugin: py-consul's own live tests against a fresh Townhall each, instead of a container.

The suite's root conftest starts containers, one for each of three versions; here its starter is replaced, one version
is kept, and what ``skips.json`` lists is skipped with its reason.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fresh import Fresh

SKIPS: dict[str, str] = json.loads((Path(__file__).parent / "skips.json").read_text())
VERSION = "1.22.0"
OTHERS = ("[1.20.6", "[1.21.5", "1.20.6]", "1.21.5]", "-1.20.6-", "-1.21.5-")


class _Container:
    """What the suite expects of a container."""

    def __init__(self, server: Fresh) -> None:
        self._server = server

    def logs(self) -> bytes:
        return self._server.log().encode()

    def stop(self) -> None:
        self._server.stop()

    def remove(self, **_: Any) -> None:
        """Nothing is left of it."""


def _start(version: str, acl_master_token: str | None = None) -> tuple[_Container, int]:
    server = Fresh(name="consul-node", management_secret=acl_master_token or "", scripts=True)
    return _Container(server), server.port


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for module in list(sys.modules.values()):
        if getattr(module, "start_consul_container", None) is not None and hasattr(module, "CONSUL_VERSIONS"):
            module.start_consul_container = _start  # type: ignore[attr-defined]
            module.get_consul_version = lambda port: VERSION  # type: ignore[attr-defined]
    kept = [item for item in items if not any(mark in item.nodeid for mark in OTHERS)]
    dropped = [item for item in items if item not in kept]
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept
    for item in items:
        why = SKIPS.get(item.nodeid.partition("[")[0])
        if why:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One TAP line for each test."""
    if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
        word = "not ok" if report.outcome == "failed" else "ok"
        reason = str(report.longrepr[2]) if report.skipped and isinstance(report.longrepr, tuple) else ""
        sys.__stdout__.write(f"\n{word} - {report.nodeid}{' # SKIP ' + reason if reason else ''}\n")
        sys.__stdout__.flush()
