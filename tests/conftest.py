"""What holds for all tests: options that lengthen the random ones, and examples that are the same in every run."""

from __future__ import annotations

import random
import signal

import pytest
from hypothesis import HealthCheck, settings

# How fast examples are drawn and run says something about the machine, nothing about the code; and a run must not fail
# by chance, so the examples are the same each time. ``--hypothesis-profile=explore`` looks for new ones; what it finds
# becomes an ``@example`` or a test of its own.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", settings.get_profile("house"), derandomize=False, print_blob=True)
settings.load_profile("house")

# A run in the background begins with SIGINT ignored, and so would all programs that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=10, help="kills in tests/crash (default 10)")
    parser.addoption("--figures", action="store_true", help="tests/chaos at its long pace, with the table of figures")


@pytest.fixture(autouse=True)
def same_draws(request: pytest.FixtureRequest) -> None:
    """Weighted picks, jitter and all else that is drawn in a test's own process: the same in every run, too."""
    random.seed(request.node.nodeid)
