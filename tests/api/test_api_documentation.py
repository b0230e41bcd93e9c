"""Every shell example of the protocol's page is run, in order, against a fresh registry."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from townhall.face.native import NativeFace
from townhall.model import errors
from townhall_process import running

PAGE = Path(__file__).parents[2] / "docs" / "protocols" / "native.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
# A stream goes on until curl's time is up (28); everything else must be answered below 400.
CURL = 'curl() { command curl -sS --fail --max-time 2 "$@" || [ $? = 28 ]; echo; }\nset -e\n'


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="needs curl and bash")
def test_examples_run() -> None:
    assert len(EXAMPLES) >= 6
    with running("--dev") as registry:
        for example in EXAMPLES:
            script = CURL + example.replace("127.0.0.1:7500", registry.address)
            done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"
            assert done.stdout


def test_every_error_code_is_listed() -> None:
    codes = {
        kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TownhallError)
    }
    ours = codes - {"unreachable", "no_instance", "peer_misbehaved"}
    assert {code for code in ours if f"`{code}`" not in TEXT} == set()


def test_paths_that_are_named_exist() -> None:
    patterns = {route.pattern for route in NativeFace().routes}
    for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/api/v1/status", "/api/v1/version"):
        assert path in patterns
        assert path in TEXT
