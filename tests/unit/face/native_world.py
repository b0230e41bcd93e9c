"""The native face over a real core without sockets: sends requests, carries out verbs, holds the soft state."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from townhall.core import Commit, Context, Outcome, Rules, Unsettled
from townhall.core.access import resolve
from townhall.core.decide import decide
from townhall.core.evolve import evolve
from townhall.core.live import Subscriber
from townhall.core.queries import Reader
from townhall.core.state import Lease, State
from townhall.face import Duplex, Park, Reply, Request, Stream, Submit, Verb
from townhall.face.native import NativeFace
from townhall.face.routing import Router
from townhall.model.access import Actor
from townhall.model.errors import TownhallError

BASE = "/api/v1"


class Answer:
    """A reply as a test wants to look at it."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.status = reply.status
        self.body = reply.body
        self.headers = {name.decode(): value.decode() for name, value in reply.headers}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class View:
    def __init__(self, interests: Sequence[Any]) -> None:
        self.fresh = True
        self.interests = tuple(interests)


class CountingIds:
    def __init__(self) -> None:
        self._leases = itertools.count(1001)
        self._texts = itertools.count(1)

    def lease_id(self) -> int:
        return next(self._leases)

    def secret(self) -> str:
        return f"secret-{next(self._texts):032d}"

    def name(self) -> str:
        return f"name-{next(self._texts)}"


class World:
    """Implements ``core.live.Live`` too."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.state = State()
        self.rules = rules or Rules()
        self.face = NativeFace("1.2.3")
        self.router = Router(self.face.routes)
        self.ids = CountingIds()
        self.now = 1_000_000
        self.deadlines: dict[int, int] = {}
        self.rows: dict[tuple[str, str, str], list[Subscriber]] = {}
        self.reported: list[tuple[Any, ...]] = []
        self.shown: dict[str, object] = {"ready": True, "engine": "ok", "node": "n1", "instances": 0}

    # --- Live

    def now_ms(self) -> int:
        return self.now

    def renew(self, leases: Sequence[int]) -> list[int]:
        for lease in leases:
            if lease in self.state.leases:
                self.deadlines[lease] = self.now + self.state.leases[lease].ttl_ms
        return [lease for lease in leases if lease not in self.state.leases]

    def renew_one(self, lease: int) -> bool:
        return not self.renew((lease,))

    def renewing(self) -> Callable[[Lease], bool]:
        return lambda lease: self.renew_one(lease.id)

    def deadline(self, lease: int) -> int | None:
        return self.deadlines.get(lease)

    def report(self, reporter: str, target: tuple[str, str, str, str], kind: str, count: int) -> bool:
        self.reported.append((reporter, target, kind, count))
        service = self.state.services.get(target[:3])  # type: ignore[call-overload]
        return service is not None and target[3] in service.instances

    def subscribers(self, namespace: str, group: str, service: str) -> Sequence[Subscriber]:
        return self.rows.get((namespace, group, service), [])

    def acknowledge(self, subscriber: str, revisions: Mapping[tuple[str, str, str], int]) -> bool:
        known = False
        for key, rows in self.rows.items():
            for row in rows:
                if row.id == subscriber:
                    known = True
                    row.acked = max(row.acked, revisions.get(key, 0))
        return known

    def view(self, interests: Sequence[Any]) -> View:
        return View(interests)

    def status(self) -> Mapping[str, object]:
        return self.shown

    # --- the writer

    def run(self, command: Any, actor: Actor = Actor(internal=True)) -> Outcome | TownhallError:  # noqa: B008
        context = Context(self.now, self.ids, actor, self.rules, "n1")
        decision = decide(self.state, command, context)
        if isinstance(decision, TownhallError):
            return decision
        result = decision.result
        if decision.facts:
            changes = evolve(self.state, Commit(self.state.position + 1, self.now, "n1", decision.facts))
            self.state.check()
            if isinstance(result, Unsettled):
                result = result.settle(changes)
        return Outcome(self.state.position, self.now, decision.facts, result)

    def reader(self, actor: Actor = Actor(internal=True)) -> Reader:  # noqa: B008
        return Reader(self.state, actor, self.rules)

    # --- the driver

    def request(
        self, method: str, target: str, body: Any = b"", headers: Mapping[str, str] = MappingProxyType({})
    ) -> Request:
        parts = urlsplit(target)
        match = self.router.match(method, _parts(parts.path))
        secret = self.face.credentials(headers, {})
        actor = resolve(self.state, self.rules, secret=secret, address="127.0.0.1:9", now_ms=self.now)
        query = parse_qs(parts.query, keep_blank_values=True)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Request(method, unquote(parts.path), match.segments, query, headers, data, "127.0.0.1:9", actor, self)

    def verb(
        self, method: str, target: str, body: Any = b"", headers: Mapping[str, str] = MappingProxyType({})
    ) -> Verb:
        """What the handler returns; refusals become replies, and nothing but ``TownhallError`` may be raised."""
        path = urlsplit(target).path
        try:
            match = self.router.match(method, _parts(path))
            if match.route is None:
                return self.face.no_route(method, path, match.allowed)
            request = self.request(method, target, body, headers)
            return match.route.handler(request, self.reader(request.actor))
        except TownhallError as error:
            return self.face.error(error, None)

    def send(self, method: str, target: str, body: Any = b"", **headers: str) -> Answer:
        """A complete exchange; a parked read is answered at its deadline. ``x_y`` names the header x-y."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path = target[1:] if target.startswith("//") else BASE + target  # "//livez" is the one at the root
        verb = self.verb(method, path, body, named)
        secret = self.face.credentials(named, {})
        try:
            actor = resolve(self.state, self.rules, secret=secret, address="", now_ms=self.now)
        except TownhallError as error:
            return Answer(self.face.error(error, None))
        return Answer(self.finish(verb, actor))

    def finish(self, verb: Verb | None, actor: Actor = Actor(internal=True)) -> Reply:  # noqa: B008
        while not isinstance(verb, Reply):
            try:
                if isinstance(verb, Submit):
                    verb = verb.render(self.reader(actor), [self.run(command, actor) for command in verb.commands])
                elif isinstance(verb, Park):
                    verb = verb.attempt(self.reader(actor), False) or verb.attempt(self.reader(actor), True)
                else:
                    raise AssertionError(f"{verb!r} is not answered once")
            except TownhallError as error:
                verb = self.face.error(error, None)
        return verb

    def stream(self, target: str, **headers: str) -> Stream:
        verb = self.verb("GET", BASE + target, b"", {name.replace("_", "-"): value for name, value in headers.items()})
        assert isinstance(verb, Stream), verb
        return verb

    def session(self) -> Duplex:
        verb = self.verb("POST", BASE + "/session")
        assert isinstance(verb, Duplex), verb
        return verb

    def say(self, duplex: Duplex, *lines: object) -> list[Any]:
        """Send lines over a session; the lines that came back."""
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        said = b""
        for step in duplex.receive(self.reader(), data):
            said += step if isinstance(step, bytes) else self.finish(step).body
        return [json.loads(line) for line in said.splitlines() if line]

    # --- short forms

    def register(self, name: str = "web", port: int = 8080, **fields: Any) -> Any:
        answer = self.send("POST", "/instances", {"service": name, "address": "127.0.0.1", "port": port, **fields})
        assert answer.status in (200, 201), answer.body
        return answer.json

    def instances(self, target: str = "web") -> list[str]:
        path, _, query = target.partition("?")
        answer = self.send("GET", f"/services/{path}/instances?{query}" if query else f"/services/{path}/instances")
        assert answer.status == 200, answer.body
        return [instance["id"] for instance in answer.json["instances"]]


def _parts(path: str) -> tuple[str, ...]:
    return tuple(unquote(part, errors="surrogateescape") for part in path[1:].split("/"))


def events(data: bytes) -> list[tuple[str, Any, str | None]]:
    """(name, decoded data, id or None) of every event."""
    found = []
    for block in data.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            found.append((fields["event"], json.loads(fields["data"]), fields.get("id")))
    return found
