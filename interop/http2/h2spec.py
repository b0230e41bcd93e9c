"""h2spec (github.com/summerwind/h2spec, 2.6) against a gRPC listener; each of its cases is a TAP line."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent


def main() -> int:
    """Run it and say what it found."""
    server = subprocess.Popen([sys.executable, str(HERE / "echo.py"), "0"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        host, _, port = server.stdout.readline().strip().rpartition(":")
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.xml")
            done = subprocess.run(
                ["h2spec", "-h", host, "-p", port, "-o", "10", "-j", str(report)], capture_output=True, text=True, check=False
            )  # fmt: skip
            if not report.exists():
                print(done.stdout[-2000:] + done.stderr[-2000:], file=sys.stderr)
                return 1
            # The report is h2spec's own, about our own server.
            cases = [
                (case, case.find("failure") is None and case.find("error") is None)
                for case in ElementTree.parse(report).iter("testcase")
            ]
    finally:
        server.kill()
        server.wait(30)
    for number, (case, good) in enumerate(cases, 1):
        words = f"{case.get('package')} {case.get('classname')}"
        print(f"{'ok' if good else 'not ok'} {number} - {words}")
    return 0 if cases and all(good for _, good in cases) else 1


if __name__ == "__main__":
    sys.exit(main())
