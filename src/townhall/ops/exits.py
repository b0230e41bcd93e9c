"""Exit codes of every command, and the one line on stderr that explains them."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["FAILED", "INTERRUPTED", "NOT_FOUND", "UNREACHABLE", "USAGE", "complain"]

FAILED: Final = 1
"""Refused, or could not be done or started."""
USAGE: Final = 2
"""The command line or the configuration is wrong."""
UNREACHABLE: Final = 3
"""No registry answered."""
NOT_FOUND: Final = 4
INTERRUPTED: Final = 130
"""As shells report SIGINT."""


def complain(message: str, code: int) -> int:
    """Write one line to stderr; returns ``code``."""
    sys.stderr.write(f"townhall: {message}\n")
    return code
