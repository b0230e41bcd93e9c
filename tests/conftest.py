"""Options that lengthen the random tests beyond what ``make test`` runs."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=10, help="kills in tests/crash (default 10)")
    parser.addoption("--figures", action="store_true", help="tests/chaos at its long pace, with the table of figures")
