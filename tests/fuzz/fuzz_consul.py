"""Coverage-guided fuzzing of the Consul face: paths, queries, bodies and filter expressions, over a real core (atheris).

Run with ``make fuzz``, or ``python tests/fuzz/fuzz_consul.py [libFuzzer options] [corpus directory]``. What it holds
against every input, in one sentence: requests in a row are answered, each with a status that blames the client alone
(or names the feature that is not there), with JSON that parses where it says so and an index that is never 0, and the
invariants of the state hold after every write.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import quote_from_bytes

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "face"))
with atheris.instrument_imports(include=["townhall"]):
    from consul_world import FaceWorld
    from native_world import Answer

    from townhall.face import Stream
    from townhall.face.consul.filter import AGENT_SERVICE, CATALOG_SERVICE, CHECK, HEALTH, NODE, predicate
    from townhall.model.errors import Misuse

NO_FAULT = (b"Keyring is empty", b"cannot find peer")
"""What a Consul without the feature answers with 500."""
STEPS_MAX = 8
ROW = {
    "Node": {"Node": "n1", "Meta": {"a": "b"}}, "Service": {"ID": "web", "Tags": ["v1", "v2"], "Port": 80, "Meta": {"k": "aab"}},
    "Checks": [{"CheckID": "c", "Status": "passing"}, {"CheckID": "d", "Status": "critical"}],
}  # fmt: skip
ROUTES = [(route.method, route.pattern) for route in FaceWorld().face.routes]
QUERY = [
    "index=1", "index=99", "wait=1ms", "wait=-1s", "wait=", "index=", "stale", "consistent", "cached", "passing", "tag=v1", "near=n1",
    "near=_agent", "node-meta=a:b", "node-meta=", "pretty", "raw", "recurse", "keys", "separator=/", "cas=0", "cas=7", "flags=1",
    "acquire=", "release=", "hash=x", "dc=dc1", "dc=x", "ns=default", "peer=p", "enable=true", "enable=", "reason=r", "note=n", "name=e",
    "limit=1", "format=text", "max_stale=1s", "replace-existing-checks", "token=x", "filter=", "loglevel=info", "datacenter=dc1",
]  # fmt: skip
WORDS = [
    *b'{}[]:,"\\ 019.-', b'":', b'","', b'{"', b'"}', b"null", b"true", b"1e9", b"-1", b"\xc3\xa9", b"\xff", b"\\u0000", b"10s", b"web", b"n1",
    *(f'"{name}":'.encode() for name in (
        "Name", "ID", "Node", "Address", "Port", "Tags", "Meta", "Check", "Checks", "CheckID", "TTL", "TCP", "HTTP", "Interval", "Timeout",
        "Status", "Service", "ServiceID", "Weights", "Passing", "Warning", "TaggedAddresses", "Kind", "Proxy", "Connect", "SidecarService",
        "KV", "Verb", "Key", "Value", "Index", "Session", "LockDelay", "Behavior", "NodeChecks", "Template", "Type", "Regexp", "DNS", "Near",
        "Failover", "NearestN", "Output", "DeregisterCriticalServiceAfter", "AliasService", "AliasNode", "Definition", "Coord", "Vec",
        "Rules", "Policies", "Description", "SecretID", "AccessorID", "Token", "Header", "Args", "GRPC", "UDP", "Protocol", "NodeMeta",
        "SkipNodeUpdate", "Datacenter", "SuccessBeforePassing",
    )),
    b" and ", b" or ", b"not ", b" in ", b" contains ", b" matches ", b" is empty", b" is not empty", b" == ", b" != ", b"(", b")", b"`a`",
    b"Service.Tags", b"Node.Meta.a", b"Checks.Status", b'Meta["k"]', b"ServicePort", b"Port", b"ID", b"(a|b)*", b"^$", b"[a-c]+", b"set",
    b"127.0.0.1", b"get-tree", b"cas", b"lock", b"\"aGk=\"", b"/", b"%2F", b"%00", b"passing", b"critical", b"release", b"delete", b"15s",
]  # fmt: skip
"""The decoder is C code that coverage cannot look into, so inputs are made of words that get further."""
SEGMENTS = [
    "web",
    "n1",
    "",
    "a/b",
    "passing",
    "any",
    "c",
    "service:web",
    "%20",
    "%2F",
    "%C3%A9",
    "%FF",
    "%00",
    "x" * 200,
    "dc1",
    "127.0.0.1",
]


class Taker:
    """Takes choices and words from the input."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def words(self) -> bytes:
        found = []
        for _ in range(self.byte() % 40):
            word = WORDS[self.byte() % len(WORDS)]
            found.append(bytes((word,)) if isinstance(word, int) else word)
        return b"".join(found)

    @property
    def more(self) -> bool:
        return self.at < len(self.data)


def path_of(pattern: str, taker: Taker) -> str:
    return "/".join(
        SEGMENTS[taker.byte() % len(SEGMENTS)] if part.startswith("{") else part for part in pattern.split("/")
    )


def query_of(taker: Taker) -> str:
    parts = []
    for _ in range(taker.byte() % 4):
        part = QUERY[taker.byte() % len(QUERY)]
        parts.append(part + quote_from_bytes(taker.words()) if part.endswith("=") else part)
    return "&".join(parts)


def check_answer(answer: Answer, what: str) -> None:
    body = answer.body
    told = "/v1/agent/health/" in what and answer.status == 503  # The status is the health.
    assert answer.status < 500 or told or body.startswith(NO_FAULT), f"{what}: {answer.status} {body[:200]!r}"
    if answer.headers.get("Content-Type") == "application/json" and body:
        json.loads(body)
    index = answer.headers.get("X-Consul-Index")
    assert index is None or int(index) >= 1, f"{what}: index {index}"


def ask(world: FaceWorld, taker: Taker) -> None:
    method, pattern = ROUTES[taker.byte() % len(ROUTES)]
    path, query = path_of(pattern, taker), query_of(taker)
    body = taker.words() if method in ("PUT", "POST") else b""
    if taker.byte() % 2 and method in ("PUT", "POST"):
        body = b'{"Name":"web","ID":"web-1",' + body
    target = f"{path}?{query}" if query else path
    if isinstance(world.verb(method, target, body), Stream):
        return
    check_answer(world.call(method, target, body), f"{method} {target} {body!r}")


def check_filter(text: str) -> None:
    for fields in (HEALTH, AGENT_SERVICE, CATALOG_SERVICE, CHECK, NODE):
        try:
            test = predicate(text, fields)
            if test is not None:
                test(ROW)
        except Misuse:
            continue


def one_input(data: bytes) -> None:
    taker = Taker(data)
    if taker.byte() % 3 == 0:
        check_filter(taker.words().decode("utf-8", "replace"))
        check_filter(data[1:].decode("utf-8", "replace"))
        return
    world = FaceWorld()
    world.service("web", Tags=["v1"], Check={"CheckID": "c", "TTL": "10s"})
    for _ in range(STEPS_MAX):
        if not taker.more:
            break
        ask(world, taker)


if __name__ == "__main__":
    # Short inputs are single requests with empty bodies: the interesting ones begin longer.
    atheris.Setup([*sys.argv, "-len_control=0", "-max_len=400"], one_input)
    atheris.Fuzz()
