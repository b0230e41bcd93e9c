"""Lays what a Townhall answers beside the recorded answers of a real Consul.

usage: golden.py [FOLDER]    (the folder holds record.py and consul-1.22.json; default $TOWNHALL_GOLDEN_CONSUL)

What no client can notice is left out of the comparison: ``Vary``, the length, the content type of an empty answer,
which way the server found the answer, whether its cache had it, ``KnownLeader: false`` in answers of a healthy leader
(ours says true), a consistency header where theirs has none, an interval that is "0s" or "", an index of 1 for what
was never written, and the output of a check, which theirs brings into its catalogue only later. ``exceptions.json`` beside this file lists what differs on purpose, each with
its reason; anything else fails. Prints TAP.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fresh import fresh

UNNOTICED = {
    "vary", "content-length", "x-consul-query-backend", "x-consul-lastcontact", "x-cache", "age", "x-consul-knownleader",
    "x-consul-effective-consistency",
}  # fmt: skip
HERE = Path(__file__).parent


def noticed(case: dict[str, Any]) -> dict[str, Any]:
    """A case without what no client can notice."""
    headers = {name: value for name, value in case.get("headers", {}).items() if name not in UNNOTICED}
    empty = not case.get("body") and "json" not in case and "body_bytes_positive" not in case
    if empty or case["status"] in (307, 301):
        headers.pop("content-type", None)
    if headers.get("x-consul-index") == "1":
        headers["x-consul-index"] = "<n>"
    shown = {name: case.get(name) for name in ("status", "blocked", "body", "body_bytes_positive")}
    return {**shown, "json": plain(case.get("json")), "headers": headers}


def plain(value: Any) -> Any:
    """The JSON without what differs between two runs of the real one, or is written in two ways by it."""
    if isinstance(value, dict):
        shown = {name: plain(each) for name, each in value.items()}
        for name in ("Interval", "Timeout"):
            if shown.get(name) == "0s":
                shown[name] = ""
        if "CheckID" in shown:
            shown.pop("Output", None)
        return shown
    if isinstance(value, list):
        rows = [plain(each) for each in value]
        checks = rows and all(isinstance(each, dict) and "CheckID" in each for each in rows)
        return sorted(rows, key=lambda each: (each["Node"], each["CheckID"])) if checks else rows
    return value


def answers(path: Path) -> dict[str, dict[str, Any]]:
    return {case["name"]: case for case in json.loads(path.read_text())["cases"]}


def reason(name: str, exceptions: dict[str, str]) -> str:
    """Why a case may differ: its own entry, or that of the longest prefix ending in '*'."""
    prefixes = [key for key in exceptions if key.endswith("*") and name.startswith(key[:-1])]
    return exceptions.get(name) or (exceptions[max(prefixes, key=len)] if prefixes else "")


def main() -> int:
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TOWNHALL_GOLDEN_CONSUL", "")
    if not given or not (Path(given) / "record.py").exists():
        print("1..0 # SKIP no recorded answers here: TOWNHALL_GOLDEN_CONSUL names their folder")
        return 0
    folder = Path(given)
    exceptions = json.loads((HERE / "exceptions.json").read_text())
    with tempfile.TemporaryDirectory() as place, fresh(name="golden-node") as server:
        out = Path(place) / "ours.json"
        command = [sys.executable, str(folder / "record.py"), f"http://{server.address}", str(out)]
        subprocess.run(command, check=True, timeout=150, stdout=subprocess.DEVNULL)
        ours = answers(out)
    theirs = answers(folder / "consul-1.22.json")
    failed = differing = 0
    for number, (name, case) in enumerate(theirs.items(), 1):
        left, right = noticed(case), noticed(ours[name])
        why = reason(name, exceptions)
        if (left["status"], right["status"]) == (500, 400):
            left["status"] = 400
            why = why or "400, not 500, for what is the caller's own mistake"
            if left == right:
                differing += 1
                print(f"ok {number} - {name} # differs: {why}")
                continue
        if left == right:
            print(f"ok {number} - {name}" + (" # listed as an exception, but equal" if why else ""))
        elif why:
            differing += 1
            print(f"ok {number} - {name} # differs: {why}")
        else:
            failed += 1
            print(f"not ok {number} - {name}: {case['request']}")
            for part in left:
                if left[part] != right[part]:
                    print(
                        f"#   {part}\n#     theirs {json.dumps(left[part])[:900]}\n#     ours   {json.dumps(right[part])[:900]}"
                    )
    print(f"# {len(theirs) - failed - differing} equal, {differing} different with a reason, {failed} different")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
