"""A fresh Townhall with its Consul face on a free port of the loopback, for a suite that wants an empty server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
COMMAND = os.environ.get("TOWNHALL_PYTHON", sys.executable)


class Fresh:
    """One running server."""

    def __init__(self, *, name: str = "golden-node", management_secret: str = "", scripts: bool = False) -> None:
        self._tokens = tempfile.NamedTemporaryFile("w", suffix=".toml") if management_secret else None  # noqa: SIM115
        options = ["--dev", "--native", "0", "--consul", "0", "--name", name, "--ready-json"]
        if scripts:
            options.append("--probe-scripts")
        if self._tokens is not None:
            self._tokens.write(f'[[token]]\nname = "management"\nsecret = "{management_secret}"\nmanagement = true\n')
            self._tokens.flush()
            options += ["--access-tokens-file", self._tokens.name]
        paths = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH", "")])])
        environment = {**os.environ, "PYTHONPATH": paths}
        for face in ("dns", "etcd", "zookeeper", "eureka", "nacos", "xds"):
            environment[f"TOWNHALL_{face.upper()}"] = "off"
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [COMMAND, "-m", "townhall", "up", *options],
            env=environment, stdout=subprocess.PIPE, stderr=self.errors, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"townhall did not start: {self.log()}")
        self.address = str(json.loads(line)["listen"]["consul"])
        self.port = int(self.address.rpartition(":")[2])

    def log(self) -> str:
        """What it wrote to its standard error."""
        self.errors.seek(0)
        return self.errors.read()

    def stop(self) -> None:
        """End it; idempotent."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        if self._tokens is not None:
            self._tokens.close()


@contextmanager
def fresh(*, name: str = "golden-node") -> Iterator[Fresh]:
    """A server for the length of a block."""
    server = Fresh(name=name)
    try:
        yield server
    finally:
        server.stop()
