"""The history of etcd's keys is forgotten as configured."""

from __future__ import annotations

import asyncio

from townhall.core.commands import Transact
from townhall.engine.memory import MemoryEngine
from townhall.face.etcd.compaction import Compaction
from townhall.face.etcd.member import SPACE
from townhall.hub.hub import Hub, HubOptions
from townhall.model.access import Actor
from townhall.model.keys import Put, Transaction
from townhall.ops.compacting import Compacting, start_compacting
from townhall.ops.settings import History

INTERNAL = Actor(internal=True)


def test_a_look_compacts_what_may_go():
    async def main() -> None:
        hub = Hub.open(MemoryEngine(), HubOptions(node="n1"))
        await hub.start()
        assert start_compacting(hub, History()) is None
        compacting = start_compacting(hub, History(etcd_revisions=3))
        assert compacting is not None
        for _ in range(10):
            done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            hub.submit(
                Transact(space=SPACE, transaction=Transaction(success=(Put(b"k", b"v"),))), INTERNAL, done.set_result
            )
            await asyncio.wait_for(done, 120)
        reader = hub.reader(INTERNAL)
        compacting.look()
        for _ in range(6_000):
            if reader.space_compacted(SPACE) == 8:
                break
            await asyncio.sleep(0.01)
        assert (reader.space_revision(SPACE), reader.space_compacted(SPACE)) == (11, 8)
        await compacting.stop()
        await compacting.stop()
        await hub.stop()

    asyncio.run(main())


def test_a_stopped_hub_is_no_failure():
    async def main() -> None:
        hub = Hub.open(MemoryEngine(), HubOptions(node="n1"))
        await hub.start()
        compacting = Compacting(hub, Compaction(keep_revisions=1, keep_ms=0))
        await hub.stop()
        compacting.look()
        await compacting.stop()

    asyncio.run(main())
