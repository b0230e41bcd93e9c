"""A missing package is told with the extra that brings it; pyproject.toml has these extras."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from townhall.client.extras import needs
from townhall.ops.cli import SERVER_PACKAGES

PROJECT = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
ADAPTERS = [("httpx", "httpx"), ("aiohttp", "aiohttp"), ("grpc", "grpcio"), ("otel", "otel")]

# A finder that has none of them, before any of ours is imported.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("httpx", "aiohttp", "grpc", "opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import townhall
try:
    townhall.%s
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.mark.parametrize(("adapter", "extra"), ADAPTERS)
def test_an_adapter_names_its_extra(adapter: str, extra: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT % adapter], capture_output=True, text=True, check=False, timeout=60
    )
    assert re.fullmatch(rf"\w+ is not installed: pip install 'townhall\[{extra}\]'\n", done.stdout), done.stderr
    assert extra in EXTRAS


def test_other_missing_modules_and_other_errors_pass() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'surely_not_there'"), needs("grpc", extra="grpcio"):
        importlib.import_module("surely_not_there")
    with pytest.raises(ValueError, match="mine"), needs("grpc", extra="grpcio"):
        raise ValueError("mine")


def test_the_packages_of_the_server_are_those_of_its_extra() -> None:
    named = {re.match(r"[\w-]+", requirement)[0] for requirement in EXTRAS["server"]}
    assert named == SERVER_PACKAGES | {"uvloop"}
