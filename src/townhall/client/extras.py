"""The packages of others that adapters need, and how they are got when they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needs"]


@contextmanager
def needs(package: str, *, extra: str) -> Iterator[None]:
    """Around imports: ``ModuleNotFoundError`` for ``package`` says which extra of ours brings it; others pass."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise ModuleNotFoundError(
            f"{package} is not installed: pip install 'townhall[{extra}]'", name=error.name
        ) from None
