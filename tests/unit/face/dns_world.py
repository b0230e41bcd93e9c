"""A registry with the DNS face before it: questions in words, answers as readable lines."""

from __future__ import annotations

import ipaddress
from typing import Any

from townhall.core import Changes, Commit, Context, Rules, commands
from townhall.core.decide import decide
from townhall.core.evolve import evolve
from townhall.core.queries import Reader
from townhall.core.state import State
from townhall.face.dns import Asked, DnsOptions, PreparedQueries, Resolution
from townhall.face.dns.answering import DnsFace
from townhall.face.dns.sizes import fit
from townhall.model.access import Actor
from townhall.model.check import CheckStatus
from townhall.model.errors import TownhallError
from townhall.model.instance import ServiceKey
from townhall.wire.dns import Edns, Header, Message, Query, Question, parse_message
from townhall.wire.dns_names import name_of, text_of
from townhall.wire.dns_records import AAAA, A, Record, Soa, Srv, Target

INTERNAL = Actor(internal=True)
TYPES = {
    "A": 1,
    "NS": 2,
    "CNAME": 5,
    "SOA": 6,
    "PTR": 12,
    "MX": 15,
    "TXT": 16,
    "AAAA": 28,
    "SRV": 33,
    "AXFR": 252,
    "ANY": 255,
}
WORDS = {number: word for word, number in TYPES.items()}


class Ids:
    def __init__(self) -> None:
        self.next = 1000

    def lease_id(self) -> int:
        self.next += 1
        return self.next

    def secret(self) -> str:
        return f"secret-{self.lease_id():016d}"

    def name(self) -> str:
        return f"name-{self.lease_id()}"


class DnsWorld:
    """``ask`` gives the whole answer, ``lines`` its answer section."""

    def __init__(self, queries: PreparedQueries | None = None, **options: Any) -> None:
        self.state = State()
        self.options = DnsOptions(**({"node": "here"} | options))
        self.face = DnsFace(self.options, queries)
        self.now_ms = 1_700_000_000_000
        self.ids = Ids()
        self.shuffled: list[list[str]] = []
        self.actor = INTERNAL
        self.last = Changes(0)

    @property
    def reader(self) -> Reader:
        return Reader(self.state, self.actor)

    def run(self, command: commands.Command) -> Any:
        decision = decide(self.state, command, Context(self.now_ms, self.ids, INTERNAL, Rules(), "here"))
        if isinstance(decision, TownhallError):
            raise decision
        if decision.facts:
            self.last = evolve(self.state, Commit(self.state.position + 1, self.now_ms, "here", decision.facts))
        return decision.result

    def register(self, service: str, id_: str, address: str, port: int = 80, **fields: Any) -> None:
        key = ServiceKey("default", "default", service)
        fields.setdefault("persistent", True)
        self.run(commands.Register(key=key, id=id_, address=address, port=port, **fields))

    def node(self, name: str, address: str, **meta: str) -> None:
        self.run(commands.PutNode(name=name, address=address, meta=meta))

    def check(self, node: str, service: str, instance: str, status: str) -> None:
        key = ServiceKey("default", "default", service) if service else None
        self.run(
            commands.PutCheck(
                node=node, id=f"c-{instance}", key=key, instance=instance, status=CheckStatus(status), output="why"
            )
        )  # fmt: skip

    def shuffle(self, instances: list[Any]) -> None:
        self.shuffled.append([instance.id for instance in instances])

    def query(self, name: str, type_: str = "A", **fields: Any) -> Query:
        flags = fields.get("flags", 0x0100)
        question = Question(name_of(name), TYPES[type_], fields.get("class_", 1))
        return Query(Header(7, flags, 1, 0, 0, 0), question, fields.get("edns"))

    def resolve(self, name: str, type_: str = "A", **fields: Any) -> Resolution:
        return self.face.resolve(self.query(name, type_, **fields), self.reader, Asked(self.now_ms, self.shuffle))

    def ask(self, name: str, type_: str = "A", *, tcp: bool = False, **fields: Any) -> Message:
        query = self.query(name, type_, **fields)
        resolution = self.face.resolve(query, self.reader, Asked(self.now_ms, self.shuffle))
        return parse_message(fit(query, resolution, self.options, tcp=tcp))

    def lines(self, name: str, type_: str = "A", **fields: Any) -> list[str]:
        return shown(self.ask(name, type_, **fields).answers)


def arpa(address: str) -> str:
    """The reverse name of an IPv4 address."""
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def edns(size: int) -> Edns:
    return Edns(size)


def shown(records: tuple[Record, ...]) -> list[str]:
    """``name ttl type data`` of each record."""
    return [f"{text_of(r.name)} {r.ttl} {WORDS[r.type]} {data(r)}" for r in records]


def data(record: Record) -> str:
    value = record.data
    if isinstance(value, Srv):
        return f"{value.priority} {value.weight} {value.port} {text_of(value.target)}"
    if isinstance(value, Target):
        return text_of(value.name)
    if isinstance(value, Soa):
        return f"{text_of(value.primary)} {value.serial}"
    return str(ipaddress.ip_address(value)) if record.type in (A, AAAA) else value[1:].decode()
