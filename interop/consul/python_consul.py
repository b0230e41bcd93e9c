"""The tutorial of python-consul 1.1.0 (no longer developed, and copied everywhere) against Townhall. Prints TAP.

``python_consul.py [INTERVAL TIMEOUT DEREGISTER]``: the times of the TCP check; ``10s 30s 30s`` are the tutorial's. The
package is installed once into ``.cache/interop/python-consul``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

CACHE = Path(__file__).parents[2] / ".cache" / "interop" / "python-consul"
PYTHON = CACHE / "bin" / "python"
NEEDS = ["python-consul==1.1.0", "requests==2.32.4", "six==1.17.0"]
PATIENCE_SECONDS = 120
PROVIDER = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\nwhile 1: s.accept()[0].close()"


def install() -> str:
    """Fetch what is missing; the reason when that is impossible."""
    done = CACHE / "ready"
    if done.exists() and done.read_text() == "\n".join(NEEDS):
        return ""
    venv.create(CACHE, with_pip=True, clear=True)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "-q", "install", *NEEDS]
    ran = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
    if ran.returncode:
        return f"pip: {(ran.stderr.strip().splitlines() or ['failed'])[-1][:200]}"
    done.write_text("\n".join(NEEDS))
    return ""


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def tutorial(interval: str, timeout: str, deregister: str) -> None:
    import consul  # noqa: PLC0415 - only in the environment of its own

    count = 0

    def check(what: str, good: bool) -> None:
        nonlocal count
        count += 1
        print(f"{'ok' if good else 'not ok'} {count} - {what}", flush=True)

    where = urlsplit(os.environ["TOWNHALL_CONSUL_URL"])
    client = consul.Consul(host=where.hostname, port=where.port)
    provider = subprocess.Popen([sys.executable, "-c", PROVIDER], stdout=subprocess.PIPE, text=True)
    try:
        assert provider.stdout is not None
        port = int(provider.stdout.readline())
        index, nodes = client.health.service("tutorial", passing=True)
        check("nobody there yet", nodes == [] and int(index) > 0)
        health = consul.Check.tcp("127.0.0.1", port, interval, timeout, deregister)
        client.agent.service.register(
            "tutorial", service_id="tutorial-1", address="127.0.0.1", port=port, tags=["v1"], check=health
        )
        check("agent.services() lists it", client.agent.services()["tutorial-1"]["Port"] == port)
        while not nodes:  # The loop of the tutorial: ask again with the index until something is there.
            index, nodes = client.health.service("tutorial", index=index, wait="20s", passing=True)
        check("health.service(index=) tells when it passes", nodes[0]["Service"]["ID"] == "tutorial-1")
        provider.kill()
        provider.wait()
        while nodes:
            index, nodes = client.health.service("tutorial", index=index, wait="20s", passing=True)
        check("and when it is dead", True)
        check("it disappears by itself", until(lambda: "tutorial-1" not in client.agent.services()))
        check("from the catalogue, too", client.catalog.service("tutorial")[1] == [])
    finally:
        provider.kill()
        provider.wait()
    client.kv.put("tutorial/key", "value")
    check("keys", client.kv.get("tutorial/key")[1]["Value"] == b"value")
    session = client.session.create(ttl=10, lock_delay=1)
    check("a lock", client.kv.put("tutorial/lock", "me", acquire=session))
    client.session.destroy(session)
    client.kv.delete("tutorial/", recurse=True)


def main() -> int:
    times = sys.argv[1:] or ["1s", "1s", "5s"]
    if os.environ.get("TOWNHALL_IN_VENV"):
        tutorial(*times)
        return 0
    why = install()
    if why:
        print(f"1..0 # SKIP {why}")
        return 0
    return subprocess.run(
        [str(PYTHON), __file__, *times], env={**os.environ, "TOWNHALL_IN_VENV": "1"}, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
