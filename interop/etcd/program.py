"""The programs of our own in other languages, each built in ``.cache`` and run against a fresh server. Prints TAP.

usage: program.py go|go-old|node|java|rust|etcdctl-3.4|etcdctl-3.5|etcdctl-3.6

A package index that cannot be reached is a reason to skip; a program of ours that does not compile is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cached
import fresh

HERE = Path(__file__).parent
BUILD_SECONDS = 900
ONLINE = {"GO111MODULE": "on", "GOFLAGS": "-mod=readonly"}


class Program(NamedTuple):
    """How it is run once it is built."""

    command: Sequence[str]
    environment: Mapping[str, str] = {}
    folder: Path = HERE


def build(step: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None, *, fetches: bool) -> None:
    """One step. One that fetches may fail for want of an index; one that compiles may not."""
    done = subprocess.run(
        step, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=BUILD_SECONDS,
        check=False,
    )  # fmt: skip
    if done.returncode and fetches:
        raise cached.Missing(f"{step[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1][:200]}")
    if done.returncode:
        raise SystemExit(f"{' '.join(step)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def place(name: str) -> Path:
    """A folder of the cache."""
    folder = cached.CACHE / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def go(name: str = "go") -> Program:
    binary = place("go") / name
    build(["go", "mod", "download"], HERE / name, ONLINE, fetches=True)
    build(["go", "build", "-o", str(binary), "."], HERE / name, ONLINE, fetches=False)
    return Program([str(binary)])


def node() -> Program:
    folder = place("node")
    for each in ("package.json", "package-lock.json"):
        shutil.copy(HERE / "node" / each, folder)
    build(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder, fetches=True)
    return Program(["node", "node/client.mjs"], {"TOWNHALL_NODE_MODULES": str(folder)})


def java() -> Program:
    folder = place("java")
    shutil.copy(HERE / "java" / "pom.xml", folder)
    path = folder / "classpath"
    maven = ["mvn", "-q", "-B", "dependency:build-classpath", f"-Dmdep.outputFile={path}"]
    build(maven, folder, fetches=True)
    classes = f"{folder / 'classes'}{os.pathsep}{path.read_text().strip()}"
    compiler = ["javac", "-d", str(folder / "classes"), "-cp", classes, str(HERE / "java" / "Main.java")]
    build(compiler, folder, fetches=False)
    return Program(["java", "-cp", classes, "Main"])


def rust() -> Program:
    """Its build of the messages needs protoc, which comes with grpcio-tools."""
    folder = place("rust-sources")
    shutil.copytree(HERE / "rust", folder, dirs_exist_ok=True)
    target, protoc = place("rust"), place("bin") / "protoc"
    protoc.write_text(f'#!/bin/sh\nexec "{cached.environment("aetcd")}" -m grpc_tools.protoc "$@"\n')
    protoc.chmod(0o755)
    environment = {"CARGO_TARGET_DIR": str(target), "PROTOC": os.environ.get("PROTOC", str(protoc))}
    build(["cargo", "fetch", "-q"], folder, environment, fetches=True)
    build(["cargo", "build", "-q"], folder, environment, fetches=False)
    return Program([str(target / "debug" / "townhall-interop")])


def etcdctl(version: str) -> Program:
    return Program(["sh", "etcdctl.sh"], {"ETCDCTL": cached.etcdctl(version)})


PROGRAMS: dict[str, Callable[[], Program]] = {
    "go": go,
    "go-old": lambda: go("go-old"),
    "node": node,
    "java": java,
    "rust": rust,
    **{f"etcdctl-{each}": lambda each=each: etcdctl(each) for each in ("3.4", "3.5", "3.6")},  # type: ignore[misc]
}


def main() -> int:
    try:
        program = PROGRAMS[sys.argv[1]]()
    except cached.Missing as missing:
        print(f"1..0 # SKIP {missing}")
        return 0
    return fresh.run(program.command, program.environment, program.folder)


if __name__ == "__main__":
    sys.exit(main())
