"""Options that lengthen the random tests beyond what ``make test`` runs, and what holds for every random test."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# How fast examples are drawn and run says something about the machine, nothing about the code.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=10, help="kills in tests/crash (default 10)")
    parser.addoption("--figures", action="store_true", help="tests/chaos at its long pace, with the table of figures")
