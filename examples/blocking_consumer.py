"""The same without an event loop, and with another HTTP client: ``call`` takes any function of an instance.

``python examples/blocking_consumer.py [REGISTRY]``
"""

import sys
from urllib.request import urlopen

import townhall


def fetch(instance: townhall.Instance) -> str:
    """One attempt, at one instance."""
    with urlopen(instance.url("/"), timeout=5) as answer:  # noqa: S310 - an instance's URL is http
        return str(answer.read().decode())


registry = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7500"
with townhall.blocking.Consumer(registry) as consumer:
    for _ in range(3):
        print(consumer["hello"].call(fetch, wait=5).strip())  # noqa: T201
townhall.blocking.close()
