"""What a process knows of others' interfaces: where documents come from, what is not believed, and endless trying."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fake_registry import FakeRegistry, Refusal, until

import asyncio_servers
from townhall.client.api import Registry
from townhall.client.http import HttpClient
from townhall.client.interface_book import InterfaceBook
from townhall.client.interface_store import PREFIX, InterfaceStore
from townhall.client.interfaces import REVISION_KEY, Interfaces
from townhall.client.records import Instance
from townhall.client.well_known import PORT_NAME
from townhall.client.well_known_listener import WellKnownListener
from townhall.model import limits

ONE, TWO = Interfaces(methods=["a"]), Interfaces(methods=["b"])


def holder(name: str, revision: str = ONE.revision, port: int = 0) -> Instance:
    ports = {PORT_NAME: port} if port else {}
    return Instance(id=name, service="s", address="127.0.0.1", ports=ports, metadata={REVISION_KEY: revision})


@asynccontextmanager
async def listening(*documents: Interfaces) -> AsyncIterator[WellKnownListener]:
    listener = WellKnownListener(documents)
    await listener.open("127.0.0.1")
    try:
        yield listener
    finally:
        await listener.close()


@asynccontextmanager
async def booking(fake: FakeRegistry | None = None, cache=None) -> AsyncIterator[InterfaceBook]:
    async with HttpClient() as http:
        if fake is None:
            book = InterfaceBook(None, http, cache)
            yield book
            book.close()
            return
        async with Registry(fake.url) as registry:
            book = InterfaceBook(InterfaceStore(registry), http, cache)
            yield book
            book.close()


def test_the_registry_is_asked_first_and_once() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, booking(fake) as book:
            fake.keys[PREFIX + ONE.revision] = {"value": ONE.data, "mod_revision": 1, "lease": None}
            learnt: list[Interfaces] = []
            end = book.listen(learnt.append)
            assert book.get(ONE.revision) is None
            instances = [holder("x"), holder("y")]
            book.want([ONE.revision], lambda: instances)
            book.want([ONE.revision], lambda: instances)
            await book.wait([ONE.revision], budget_s=10)
            assert book.get(ONE.revision) == ONE
            assert learnt == [ONE]
            book.want([ONE.revision], lambda: instances)
            end()
            assert len(fake.asked) == 1

    asyncio.run(main())


def test_an_instance_is_asked_when_the_registry_has_none_or_something_else() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, booking(fake) as book, listening(ONE) as listener:
            fake.keys[PREFIX + ONE.revision] = {"value": TWO.data, "mod_revision": 1, "lease": None}
            book.want([ONE.revision], lambda: [holder("x", port=listener.port)])
            await book.wait([ONE.revision], budget_s=10)
            assert book.get(ONE.revision) == ONE

    asyncio.run(main())


def test_instances_that_lie_are_not_believed_and_others_are_asked() -> None:
    async def main() -> None:
        async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(TWO.data) + TWO.data)
            writer.close()

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n" + b"x" * 1000)
            writer.close()

        liar = await asyncio.start_server(lie, "127.0.0.1", 0)
        flooder = await asyncio.start_server(flood, "127.0.0.1", 0)
        ports = [one.sockets[0].getsockname()[1] for one in (liar, flooder)]
        async with booking() as book, listening(TWO) as other, listening(ONE) as good:
            instances = [holder("liar", port=ports[0]), holder("flooder", port=ports[1])]
            book.want([ONE.revision], lambda: instances)
            await book.wait([ONE.revision], budget_s=0.3)
            assert book.get(ONE.revision) is None
            # One that serves another revision, and one that is right.
            instances += [holder("other", port=other.port), holder("good", port=good.port)]
            await until(lambda: book.get(ONE.revision) == ONE)
        for server in (liar, flooder):
            await asyncio_servers.close(server)

    asyncio.run(main())


def test_fetching_goes_on_until_it_works_and_the_log_says_so_once(caplog, monkeypatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_BACKOFF_MAX_MS", 100)

    async def main() -> None:
        async with FakeRegistry() as fake, booking(fake) as book:
            fake.faults.refuse = lambda asked: Refusal(503, "unavailable")
            book.want([ONE.revision], lambda: [holder("x")])
            await until(lambda: len(fake.asked) >= 6)
            assert book.get(ONE.revision) is None
            fake.keys[PREFIX + ONE.revision] = {"value": ONE.data, "mod_revision": 1, "lease": None}
            fake.faults.refuse = lambda asked: None
            await until(lambda: book.get(ONE.revision) is not None)

    asyncio.run(main())
    assert sum("called all the same" in one.message for one in caplog.records) == 1


def test_nothing_is_fetched_for_instances_that_are_gone() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, booking(fake) as book:
            present = [holder("x")]
            book.want([ONE.revision], lambda: present)
            await until(lambda: fake.asked)
            present.clear()
            await until(lambda: not book._fetching)
            asked = len(fake.asked)
            book.want([ONE.revision], lambda: present)
            await until(lambda: not book._fetching)
            assert len(fake.asked) == asked

    asyncio.run(main())


def test_another_service_with_the_same_revision_keeps_the_fetch_going() -> None:
    async def main() -> None:
        async with FakeRegistry() as fake, booking(fake) as book, listening(ONE) as listener:
            first, second = [holder("x")], [holder("y", port=listener.port)]
            book.want([ONE.revision], lambda: first)
            book.want([ONE.revision], lambda: second)
            first.clear()
            await until(lambda: book.get(ONE.revision) == ONE)

    asyncio.run(main())


def test_few_fetches_run_at_once_and_few_documents_are_kept(monkeypatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_INTERFACES_KEPT_MAX", 5)
    documents = [Interfaces(methods=[str(n)]) for n in range(8)]

    async def main() -> None:
        async with FakeRegistry() as fake, booking(fake) as book:
            fake.faults.delay_s = 0.01
            for one in documents:
                fake.keys[PREFIX + one.revision] = {"value": one.data, "mod_revision": 1, "lease": None}
            instances = [holder(one.revision, one.revision) for one in documents]
            revisions = [one.revision for one in documents]
            book.want(revisions, lambda: instances)
            assert len(book._fetching) == 5
            assert book._at_once._value <= limits.CLIENT_INTERFACES_FETCHES_MAX
            await book.wait(revisions, budget_s=10)
            assert [one in book._known for one in revisions] == [True] * 5 + [False] * 3
            book.get(revisions[0])
            book.want(revisions, lambda: instances)
            await book.wait(revisions, budget_s=10)
            # The one used last stays, the oldest go.
            assert revisions[0] in book._known
            assert len(book._known) == 5

    asyncio.run(main())


def test_at_most_a_few_holders_are_asked_in_a_round() -> None:
    async def main() -> None:
        counts = 0

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal counts
            counts += 1
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        present = [holder(str(n), port=port) for n in range(20)]
        rounds = 0

        def holders() -> list[Instance]:
            nonlocal rounds
            rounds += 1
            return present if rounds == 1 else []

        async with booking() as book:
            book.want([ONE.revision], holders)
            await until(lambda: not book._fetching)
        await asyncio_servers.close(server)
        assert counts == limits.CLIENT_INTERFACES_HOLDERS_MAX

    asyncio.run(main())


class Shelf:
    """A cache in memory, with switches."""

    def __init__(self) -> None:
        self.kept: dict[str, Interfaces] = {}
        self.broken = False

    def load(self, revision: str) -> Interfaces | None:
        return self.kept.get(revision)

    def save(self, interfaces: Interfaces) -> None:
        if self.broken:
            raise OSError("no space left")
        self.kept[interfaces.revision] = interfaces


@pytest.mark.parametrize("broken", [False, True])
def test_documents_outlive_the_process(broken: bool) -> None:
    async def main() -> None:
        shelf = Shelf()
        shelf.broken = broken
        async with FakeRegistry() as fake:
            fake.keys[PREFIX + ONE.revision] = {"value": ONE.data, "mod_revision": 1, "lease": None}
            async with booking(fake, shelf) as book:
                book.want([ONE.revision], lambda: [holder("x")])
                await until(lambda: book.get(ONE.revision) == ONE)
            assert (ONE.revision in shelf.kept) is not broken
            async with booking(fake, shelf) as book:
                asked = len(fake.asked)
                book.want([ONE.revision], lambda: [holder("x")])
                await until(lambda: book.get(ONE.revision) == ONE)
                assert (len(fake.asked) == asked) is not broken

    asyncio.run(main())
