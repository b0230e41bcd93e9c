from __future__ import annotations

import importlib.metadata
import sys

import pytest

from townhall.ops.version import version


@pytest.fixture(autouse=True)
def fresh():
    version.cache_clear()
    yield
    version.cache_clear()


def test_version_is_that_of_the_distribution():
    try:
        expected = importlib.metadata.version("townhall")
    except importlib.metadata.PackageNotFoundError:
        expected = "0+unknown"
    assert version() == expected


def test_it_is_read_from_the_metadata_directory(tmp_path, monkeypatch):
    (tmp_path / "townhall_other-9.9.dist-info").mkdir()
    (tmp_path / "townhall-1.2.3rc1.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", ["/nonexistent", str(tmp_path)])
    assert version() == "1.2.3rc1"


def test_sources_that_are_not_installed_have_no_version(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert version() == "0+unknown"
