"""Foreign programs against a running Townhall: ``make interop``, or ``run.py NAME…`` for some of the suites.

Each suite is one row: its toolchain, the command, and what it prints. Programs print TAP lines (``ok 1 - …``,
``not ok 2 - …``). A suite whose toolchain is missing is skipped with its reason, and fails the run under CI, where
nothing may be missing. A suite that fails is run once more, alone: suites of others have races of their own. What a
program needs from a package registry is fetched by the registry's own client, in pinned versions, into
``.cache/interop``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "interop"
TAP = re.compile(r"^(ok|not ok)\b(.*)$", re.MULTILINE)
SUITE_SECONDS = 600


class Suite(NamedTuple):
    """One foreign program."""

    name: str
    tool: str
    """Executable that must be on PATH."""
    package: str
    """Debian package that has it."""
    command: list[str]
    """Run in ``interop/<protocol>``, with TOWNHALL_URL and those of Consul, etcd and DNS in the environment."""
    protocol: str = "native"
    carried: bool = True
    """What it needs can be had everywhere; CI fails when it is skipped."""
    fetch: tuple[str, ...] = ()
    """Brings the dependencies of a program in a folder ``interop/<protocol>/<name>``, which is copied into the cache
    and run there. When it fails, the suite is skipped with its last words."""
    environment: Mapping[str, str] = {}


GO = {"GO111MODULE": "on", "GOFLAGS": "-mod=readonly -modcacherw", "GOMODCACHE": str(CACHE / "go")}
MAVEN = (
    "mvn", "-q", "-B", "-Dstyle.color=never", f"-Dmaven.repo.local={CACHE / 'maven'}", "compile", "dependency:copy-dependencies",
    "-DoutputDirectory=target/lib",
)  # fmt: skip
JAVA = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", "target/classes:target/lib/*", "interop.All"]
MODULE = ("go", "list", "-deps", ".")
H2SPEC = [sys.executable, "h2spec.py"]

SUITES = [
    Suite("curl", "curl", "curl", ["sh", "curl.sh"]),
    Suite("node", "node", "nodejs", ["node", "client.mjs"]),
    Suite("go", "go", "golang-go", ["go", "run", "client.go"]),
    Suite("java", "java", "default-jdk-headless", ["java", "Client.java"]),
    Suite("py-consul", "python3", "python3", [sys.executable, "py_consul.py"], "consul"),
    Suite("python-consul", "python3", "python3", [sys.executable, "python_consul.py"], "consul"),
    Suite("dnspython", "python3", "python3", [sys.executable, "dnspython.py"], "consul"),
    Suite("node", "npm", "npm", ["node", "client.mjs"], "consul", fetch=("npm", "ci", "--no-audit", "--no-fund")),
    Suite("go", "go", "golang-go", ["go", "run", "."], "consul", fetch=MODULE, environment=GO),
    Suite("java", "mvn", "maven", JAVA, "consul", fetch=MAVEN),
    Suite("prometheus", "go", "golang-go", ["go", "run", "."], "consul", fetch=MODULE, environment=GO),
    Suite("layouts", "go", "golang-go", ["go", "run", "."], "etcd", fetch=MODULE, environment=GO),
    # Its build takes a minute or two in a fresh clone.
    Suite("frameworks", "go", "golang-go", ["go", "run", "."], "etcd", fetch=MODULE, environment=GO),
    Suite("node-consul", "npm", "npm", [sys.executable, "node_consul.py"], "consul", carried=False),
    Suite("golden", "python3", "python3", [sys.executable, "golden.py"], "consul", carried=False),
    Suite("h2spec", "h2spec", "h2spec (none: build github.com/summerwind/h2spec)", H2SPEC, "http2", carried=False),
    Suite("python-etcd3", "python3", "python3", [sys.executable, "suite.py", "python-etcd3"], "etcd"),
    Suite("aetcd", "python3", "python3", [sys.executable, "suite.py", "aetcd"], "etcd"),
    Suite("etcd3-py", "python3", "python3", [sys.executable, "suite.py", "etcd3-py"], "etcd"),
    Suite("golden", "python3", "python3", [sys.executable, "golden.py"], "etcd", carried=False),
    Suite("etcdctl-3.4", "sh", "dash", [sys.executable, "program.py", "etcdctl-3.4"], "etcd", carried=False),
    Suite("etcdctl-3.5", "sh", "dash", [sys.executable, "program.py", "etcdctl-3.5"], "etcd"),
    Suite("etcdctl-3.6", "sh", "dash", [sys.executable, "program.py", "etcdctl-3.6"], "etcd", carried=False),
    Suite("go", "go", "golang-go", [sys.executable, "program.py", "go"], "etcd"),
    Suite("go-old", "go", "golang-go", [sys.executable, "program.py", "go-old"], "etcd"),
    Suite("node", "npm", "npm", [sys.executable, "program.py", "node"], "etcd"),
    Suite("java", "mvn", "maven", [sys.executable, "program.py", "java"], "etcd"),
    # Its build takes minutes in a fresh clone.
    Suite("rust", "cargo", "cargo", [sys.executable, "program.py", "rust"], "etcd", carried=False),
    Suite("differential", "python3", "python3", [sys.executable, "differential.py"], "etcd", carried=False),
]


@contextlib.contextmanager
def serve() -> Iterator[dict[str, str]]:
    """A Townhall that keeps nothing, on free ports of the loopback: the URLs of its listeners."""
    words = [str(Path(sys.executable).with_name("townhall")), "up", "--dev", "--native", "0", "--consul", "0"]
    words += ["--etcd", "0", "--dns", "0"]
    words += ["--layouts-etcd-export", "all/,zero/=go-zero,kit-all/=go-kit,kitex-all/=kitex"]
    words += ["--layouts-etcd-import", "service/,fw-user.=go-zero,/fw-kit/=go-kit,kitex/registry-etcd/=kitex"]
    with subprocess.Popen([*words, "--ready-json"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            yield {name: f"http://{address}" for name, address in ready["listen"].items()}
        finally:
            process.terminate()


def command(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    # A program that hangs is ended, and has failed with what it said until then.
    words = ["timeout", "--kill-after=10", str(SUITE_SECONDS), *words]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def run(suite: Suite, urls: dict[str, str]) -> tuple[int, int, str]:
    """(passed, failed, why skipped)."""
    if shutil.which(suite.tool) is None:
        return 0, 0, f"{suite.tool} is missing: apt install {suite.package}"
    environment = {
        **os.environ,
        "TOWNHALL_URL": urls["native"],
        "TOWNHALL_CONSUL_URL": urls["consul"],
        "TOWNHALL_ETCD_URL": urls["etcd"],
        "TOWNHALL_DNS_URL": urls["dns"],
        "GOFLAGS": "-mod=mod",
        "GO111MODULE": "off",
        **suite.environment,
    }
    folder = HERE / suite.protocol
    if suite.fetch:
        folder = CACHE / suite.protocol / suite.name
        shutil.copytree(HERE / suite.protocol / suite.name, folder, dirs_exist_ok=True)
        fetched = command(suite.fetch, folder, environment)
        if fetched.returncode:
            said = (fetched.stderr.strip() or fetched.stdout.strip() or "no word").splitlines()[-1]
            return 0, 0, f"{suite.fetch[0]} could not fetch what it needs: {said[:200]}"
    done = command(suite.command, folder, environment)
    skip = re.match(r"1\.\.0 # SKIP (.*)", done.stdout)
    if skip is not None:
        return 0, 0, skip.group(1)
    found = list(TAP.finditer(done.stdout))
    results = [match.group(1) for match in found if "# SKIP" not in match.group(2)]
    left_out = len(found) - len(results)
    if left_out:
        print(f"{suite.protocol}/{suite.name}: {left_out} left out, each with its reason in skips.json")
    failed = results.count("not ok") + (done.returncode != 0 and "not ok" not in results) + (not results)
    if failed:
        sys.stdout.write(done.stdout[-4000:] + done.stderr[-4000:])
    return results.count("ok"), failed, ""


def main() -> int:
    """Run all suites, print a line each, and a closing line that counts."""
    wanted = [suite for suite in SUITES if not sys.argv[1:] or f"{suite.protocol}/{suite.name}" in sys.argv[1:]]
    passed = failed = skipped = missed = 0
    with serve() as urls:
        for suite in wanted:
            good, bad, reason = run(suite, urls)
            if bad:
                print(f"{suite.protocol}/{suite.name}: {bad} failed; again, against a Townhall of its own", flush=True)
                with serve() as own:
                    good, bad, reason = run(suite, own)
            passed, failed, skipped = passed + good, failed + bad, skipped + bool(reason)
            missed += bool(reason) and suite.carried
            print(f"{suite.protocol}/{suite.name}: {reason or f'{good} passed, {bad} failed'}", flush=True)
    if os.environ.get("CI"):
        failed += missed
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
