from __future__ import annotations

import shutil
import subprocess

import pytest

from townhall.ops.commands import TABLE
from townhall.ops.completion import RENDERERS, bash, tree


def complete_in_bash(line: str) -> set[str]:
    """What bash would offer for the last word of ``line``."""
    words = line.split(" ")
    script = bash() + "\nCOMP_WORDS=(" + " ".join(f"'{word}'" for word in words) + f")\nCOMP_CWORD={len(words) - 1}\n"
    script += '_townhall; printf "%s\\n" "${COMPREPLY[@]}"\n'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert not done.stderr
    return set(done.stdout.split())


def test_tree_has_every_command_and_their_sub_commands():
    paths = {leaf.path for leaf in tree()}
    assert {(row.name,) for row in TABLE} <= paths
    assert {("kv", "get"), ("token", "bootstrap"), ("config", "show")} <= paths


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("townhall serv", {"services"}),
        ("townhall kv ", {"get", "put", "del", "list", "watch"}),
        ("townhall up --log-level ", {"debug", "info", "warning", "error"}),
        ("townhall completion ", {"bash", "zsh", "fish"}),
        ("townhall config sh", {"show"}),
        ("townhall config show --ns", set()),
        ("townhall instances web --heal", {"--healthy"}),
    ],
)
def test_bash(line, expected):
    found = complete_in_bash(line)
    assert found >= expected if line.endswith(" ") else found == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_syntax_is_accepted_by_the_shell(shell):
    script = RENDERERS[shell]()
    assert "townhall" in script
    if shutil.which(shell):
        done = subprocess.run([shell, "-n", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
