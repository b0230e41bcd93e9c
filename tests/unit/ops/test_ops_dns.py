"""The DNS server's settings as it understands them."""

from __future__ import annotations

import asyncio

import pytest

from townhall.core.queries import Reader
from townhall.core.state import State
from townhall.engine.memory import MemoryEngine
from townhall.face.consul.site import Site
from townhall.hub.hub import Hub
from townhall.model import limits
from townhall.model.access import Actor
from townhall.model.errors import InvalidField
from townhall.ops.dns import PreparedByConsul, dns_server, recursors_of, ttls_of
from townhall.ops.settings import Names
from townhall.serve.dns_options import Recursor


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("127.0.0.53", (Recursor("127.0.0.53", 53),)),
        ("127.0.0.1:99, ::1,[::1],[::1]:5353", (Recursor("127.0.0.1", 99), *[Recursor("::1", 53)] * 2, Recursor("::1", 5353))),
    ],
)  # fmt: skip
def test_recursors(text, found):
    assert recursors_of(text) == found


@pytest.mark.parametrize(
    "text", ["dns.example.test", "127.0.0.1:x", ",".join(["::1"] * (limits.DNS_RECURSORS_COUNT_MAX + 1))]
)
def test_bad_recursors_are_told(text):
    with pytest.raises(InvalidField, match="--names-recursors"):
        recursors_of(text)


def test_times_to_live():
    assert ttls_of("Web=10, api*=5,*=0,") == {"web": 10, "api*": 5, "*": 0}
    for text in ("web", "web=", "=5", "web=-1", "web=1s", "web=99999999999"):
        with pytest.raises(InvalidField, match="--names-service-ttls"):
            ttls_of(text)


def test_a_query_that_is_not_there():
    assert PreparedByConsul(Site()).execute(Reader(State(), Actor(internal=True)), "q") is None


def test_the_server_has_its_settings(tmp_path):
    secret = tmp_path / "token"
    secret.write_text("a secret\n")

    async def run() -> None:
        hub = Hub.open(MemoryEngine())
        settings = Names(
            recursors="127.0.0.1", rate=5, token_file=str(secret), idle_timeout_ms=70, recursor_timeout_ms=80
        )  # fmt: skip
        server = dns_server(settings, hub, Site(node="n1"))
        options = server.options
        assert (options.token, options.rate, len(options.recursors)) == ("a secret", 5, 1)
        assert (options.idle_timeout_ms, options.recursor_timeout_ms) == (70, 80)
        for bad in (Names(domain="a..b"), Names(token_file=str(tmp_path / "none"))):
            with pytest.raises(InvalidField):
                dns_server(bad, hub, Site())
        await hub.stop()

    asyncio.run(run())
