from __future__ import annotations

import sys

import pytest
from probe_world import look

from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckKind, CheckStatus
from townhall.probe import Finding, Ground
from townhall.probe.ranges import Ranges
from townhall.probe.script import probe_script


def run(code: str, timeout_ms: int = 30_000) -> Finding:
    definition = CheckDefinition(kind=CheckKind.SCRIPT, arguments=(sys.executable, "-c", code))
    return look(probe_script, definition, Ground(Ranges(), timeout_ms))


@pytest.mark.parametrize(
    ("code", "status"), [(0, CheckStatus.PASSING), (1, CheckStatus.WARNING), (2, CheckStatus.CRITICAL)]
)
def test_exit_codes(code: int, status: CheckStatus):
    found = run(f"import sys; print('said'); sys.exit({code})")
    assert (found.status, found.output.strip()) == (status, "said")


def test_output_is_cut():
    assert len(run("print('x' * 1_000_000)").output) == limits.CHECK_OUTPUT_SIZE_MAX


def test_a_command_that_hangs_is_ended():
    found = run("import time; time.sleep(600)", 200)
    assert found.status is CheckStatus.CRITICAL
    assert "Timed out" in found.output


@pytest.mark.parametrize("arguments", [(), ("/nowhere/at-all",), ("a\0b",)])
def test_what_cannot_be_run(arguments: tuple[str, ...]):
    assert look(probe_script, CheckDefinition(arguments=arguments)).status is CheckStatus.CRITICAL
