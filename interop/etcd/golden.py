"""Lays what a Townhall answers beside the recorded answers of a real etcd. Prints TAP.

usage: golden.py [FOLDER]    (it holds record.py, the .proto files and etcd-3.6.14.jsonl; default $TOWNHALL_GOLDEN_ETCD)

``exceptions.json`` beside this file lists what differs on purpose, each with its reason; anything else fails. The
answers of 3.4 and 3.5 are at hand too: an answer that equals one of theirs is still a difference, and is named.
"""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cached
from fresh import fresh

HERE = Path(__file__).parent
RECORD_SECONDS = 240
Answers = dict[tuple[str, str, int], Any]


def answers(path: Path) -> Answers:
    """By kind, name and how many had that name before."""
    seen: collections.Counter[tuple[str, str]] = collections.Counter()
    rows: Answers = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        seen[row["kind"], row["name"]] += 1
        rows[row["kind"], row["name"], seen[row["kind"], row["name"]]] = noticed(
            row["code"], row["message"], row["body"]
        )
    return rows


def noticed(code: Any, message: str, body: Any) -> Any:
    """An answer without what varies between two runs of the real one.

    Blanks in a media type; the words for a deadline, which are the client's own or the stream's. The
    gateway's errors carry the text as ``error`` too, for clients of 3.4 and 3.5, where ``code`` and ``message`` suffice
    for those of 3.6.
    """
    if code == "DEADLINE_EXCEEDED":
        message = ""
    if isinstance(body, dict) and body.get("error") == body.get("message"):
        body = {name: value for name, value in body.items() if name != "error"}
    return [code, message.replace(" ", "") if isinstance(code, int) else message, body]


def record(folder: Path, place: Path) -> Answers:
    """What our server answers to the recorder's requests."""
    python, out = cached.environment("aetcd"), place / "ours.jsonl"
    protos = sorted(each.name for each in folder.glob("*.proto"))
    compile_them = [python, "-m", "grpc_tools.protoc", f"-I{folder}", f"--python_out={place}", *protos]
    subprocess.run(compile_them, check=True, timeout=60, stderr=subprocess.DEVNULL)
    with fresh() as server:
        command = [python, str(folder / "record.py"), server.address, str(out)]
        environment = {**os.environ, "PYTHONPATH": str(place)}
        subprocess.run(command, check=True, timeout=RECORD_SECONDS, stdout=subprocess.DEVNULL, env=environment)
    return answers(out)


def named(key: tuple[str, str, int]) -> str:
    return f"{key[0]} {key[1]}" + (f" #{key[2]}" if key[2] > 1 else "")


def reason(name: str, exceptions: dict[str, str]) -> str:
    """Why an answer may differ: its own entry, or that of the longest prefix ending in '*'."""
    prefixes = [key for key in exceptions if key.endswith("*") and name.startswith(key[:-1])]
    return exceptions.get(name) or (exceptions[max(prefixes, key=len)] if prefixes else "")


def main() -> int:
    given = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TOWNHALL_GOLDEN_ETCD", "")
    if not given or not (Path(given) / "record.py").exists():
        print("1..0 # SKIP no recorded answers here: TOWNHALL_GOLDEN_ETCD names their folder")
        return 0
    exceptions = json.loads((HERE / "exceptions.json").read_text())
    folder = Path(given).resolve()
    try:
        with tempfile.TemporaryDirectory() as place:
            ours = record(folder, Path(place))
    except cached.Missing as missing:
        print(f"1..0 # SKIP {missing}")
        return 0
    theirs = answers(folder / "etcd-3.6.14.jsonl")
    older = {version: answers(folder / f"etcd-{version}.jsonl") for version in ("3.4.23", "3.5.1", "3.7.1")}
    failed = differing = 0
    for number, key in enumerate([*theirs, *(key for key in ours if key not in theirs)], 1):
        name = named(key)
        why = reason(name, exceptions)
        if theirs.get(key) == ours.get(key):
            print(f"ok {number} - {name}" + (" # listed as an exception, but equal" if why else ""))
            continue
        alike = [version for version, rows in older.items() if rows.get(key) == ours.get(key)]
        as_in = f" (as in {', '.join(alike)})" if alike else ""
        if why:
            differing += 1
            print(f"ok {number} - {name} # differs{as_in}: {why}")
            continue
        failed += 1
        print(f"not ok {number} - {name}{as_in}")
        print(f"#     theirs {json.dumps(theirs.get(key))[:700]}\n#     ours   {json.dumps(ours.get(key))[:700]}")
    print(f"# {len(theirs) - failed - differing} equal, {differing} different with a reason, {failed} different")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
