"""What the repository may not contain, whatever the file: machine paths, registry hosts, addresses off loopback."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from pathlib import Path

import pytest

from house import rules

FORBIDDEN = [
    (r"(?<![\w.])/(?:home|root|work|Users)/[a-z]", "a path of one machine"),
    (r"https?://[^\s\"']+\.(?:whl|tar\.gz|tgz|crate|jar)\b", "a download address"),
    (r"\b(?:pypi|npmjs|crates|maven|debian)\.(?:org|io|com)\b", "the host of a package registry"),
]
ADDRESS = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?![\w.]*\d)")
DOCUMENTATION = [ipaddress.ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=rules.ROOT, capture_output=True, text=True, check=True, timeout=60,
    ).stdout.split("\n")  # fmt: skip
    return [rules.ROOT / name for name in listed if name and (rules.ROOT / name).is_file()]


@pytest.mark.parametrize("path", tracked(), ids=rules.where)
def test_files_speak_of_the_project_alone(path: Path) -> None:
    if path == Path(__file__) or path.name == "LICENSE":
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    for pattern, what in FORBIDDEN:
        found = re.search(pattern, text)
        assert not found, f"{what}: {found.group(0) if found else ''}"
    if path.suffix == ".lock":
        return
    for match in ADDRESS.finditer(text):
        try:
            address = ipaddress.ip_address(match.group(1))
        except ValueError:
            continue
        # Parsed only, never connected to: the unspecified, broadcast and documentation addresses (RFC 5737).
        # Link-local ones are named where probes are kept from dialling them.
        harmless = (
            address.is_unspecified
            or address.is_link_local
            or address.is_multicast
            or any(address in net for net in DOCUMENTATION)
        )
        broadcast = str(address) == "255.255.255.255"
        assert address.is_loopback or harmless or broadcast, f"{address} is not a loopback address"
