"""The literal table of layouts by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from townhall.core.layouts import Layout
from townhall.core.layouts.address import Address
from townhall.core.layouts.kitex import Kitex
from townhall.core.layouts.kratos import Kratos
from townhall.core.layouts.naming import Naming

__all__ = ["LAYOUTS"]

_ALL: Final[tuple[Layout, ...]] = (
    Naming(), Address("plain"), Address("url", scheme="http"), Address("go-zero", bare=True), Kratos(), Address("go-kit"), Kitex(),
)  # fmt: skip
LAYOUTS: Final[Mapping[str, Layout]] = {layout.name: layout for layout in _ALL}
