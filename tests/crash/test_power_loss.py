"""Power loss at the level of file calls: every call of a workload is once the last one before the power goes.

The disk forgets what was not synced, keeps some of it, tears the last write at an arbitrary byte or keeps some of its
sectors. Afterwards every acknowledged group must be there, in order, and the group under way whole or not at all.
"""

import asyncio
import random
from pathlib import Path

import pytest

from townhall.engine.file import FileEngine
from townhall.engine.lossy import LossyDisk
from townhall.model.errors import Damaged, EngineFailed, EngineFull, OutcomeUnknown, TownhallError

ROOT = Path("/registry")


class Registry:
    """A client of the engine that knows what it was promised."""

    def __init__(self, rng: random.Random, disk: LossyDisk) -> None:
        self.rng = rng
        self.disk = disk
        self.acknowledged: list[bytes] = []
        self.under_way: list[bytes] = []
        self.engine = FileEngine(ROOT, disk=disk, segment_size=700)

    def start(self, why: str) -> None:
        """Open, and check what is there against what was promised."""
        self.engine = FileEngine(ROOT, disk=self.disk, segment_size=700)
        opened = self.engine.open()
        found = list(self.engine.snapshot())
        assert len(found) == opened.snapshot, why
        found += [entry.blob for entry in self.engine.follow(opened.snapshot)]
        assert len(found) == opened.tail, why
        assert found in (self.acknowledged, self.acknowledged + self.under_way), why
        self.acknowledged, self.under_way = found, []

    async def work(self, appends: int) -> None:
        """Append, save and trim until done or until the disk fails."""
        for number in range(appends):
            blobs = [self.rng.randbytes(self.rng.choice((1, 20, 700))) for _ in range(self.rng.randint(1, 4))]
            self.under_way = blobs
            await self.engine.append(blobs, len(self.acknowledged))
            self.acknowledged, self.under_way = self.acknowledged + blobs, []
            if number % 4 == 3:
                position = len(self.acknowledged) - self.rng.randint(0, 2)
                self.engine.save(position, self.acknowledged[:position])
                self.engine.trim(position - 1)

    def run(self, appends: int) -> TownhallError | None:
        """Work and close; the error that stopped it."""
        try:
            asyncio.run(self.work(appends))
        except TownhallError as error:
            return error
        finally:
            self.engine.close()
        return None


def lived(seed: int, cut: int) -> tuple[Registry, int]:
    """A registry that was started, worked, and lost its power at call ``cut``; and how many calls it made."""
    rng = random.Random(seed)
    registry = Registry(rng, LossyDisk(rng))
    registry.start("new")
    before = registry.disk.calls_count
    registry.disk.calls_left = cut
    registry.run(10)
    return registry, registry.disk.calls_count - before


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_at_every_call(seed):
    _, total = lived(seed, 1 << 40)
    assert total > 60
    for cut in range(total + 1):
        why = f"seed {seed}, cut at call {cut}"
        registry, _ = lived(seed, cut)
        registry.disk.power_loss()
        registry.start(why)
        assert registry.run(3) is None, why
        registry.disk.power_loss()
        registry.start(f"{why}, second start")
        registry.engine.close()


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_while_recovering_from_a_cut(seed):
    rng = random.Random(seed)
    registry = Registry(rng, LossyDisk(rng))
    for round_number in range(60):
        why = f"seed {seed}, round {round_number}"
        registry.disk.calls_left = rng.randint(1, 12)
        try:
            registry.start(why)
        except EngineFailed:
            registry.engine.close()
        else:
            registry.disk.calls_left = rng.randint(1, 60)
            registry.run(6)
        registry.disk.power_loss()
    registry.start(f"seed {seed}, at the end")
    registry.engine.close()


@pytest.mark.parametrize("seed", range(30))
def test_a_failed_sync_promises_nothing_and_a_restart_makes_it_sure(seed):
    rng = random.Random(seed)
    registry = Registry(rng, LossyDisk(rng))
    registry.start("new")
    asyncio.run(registry.work(3))
    registry.disk.failing_syncs = 1
    with pytest.raises((OutcomeUnknown, EngineFailed)):
        asyncio.run(registry.work(1))
    with pytest.raises(EngineFailed, match="no more writes"):
        asyncio.run(registry.engine.append([b"later"], registry.engine.tail()))
    assert [entry.blob for entry in registry.engine.follow(registry.engine.tail())] == []
    registry.engine.close()
    if seed % 2:
        registry.disk.power_loss()
    registry.start("after the failed sync")
    # What a start has shown must survive a power loss right behind it: the failed sync left it in memory only.
    registry.engine.close()
    registry.disk.power_loss()
    shown = registry.acknowledged
    registry.start("after the power loss")
    assert registry.acknowledged == shown
    registry.engine.close()


@pytest.mark.parametrize("seed", range(30))
def test_a_full_disk_refuses_and_goes_on_when_there_is_room(seed):
    rng = random.Random(seed)
    registry = Registry(rng, LossyDisk(rng))
    registry.start("new")
    registry.disk.capacity = 5_000 + rng.randint(0, 2_000)
    for refusals in range(3):
        with pytest.raises(EngineFull):
            asyncio.run(registry.work(40))
        # Nothing of a refused group will ever be seen.
        registry.under_way = []
        if rng.random() < 0.5:
            registry.engine.close()
            registry.disk.power_loss()
            registry.start(f"seed {seed}, refusal {refusals}")
        registry.disk.capacity += 4_000
    registry.engine.close()
    registry.disk.power_loss()
    registry.start(f"seed {seed}, at the end")
    registry.engine.close()


@pytest.mark.parametrize("seed", range(10))
def test_short_writes_change_nothing(seed):
    rng = random.Random(seed)
    registry = Registry(rng, LossyDisk(rng))
    registry.disk.write_size_max = rng.randint(1, 50)
    registry.start("new")
    assert registry.run(8) is None
    registry.disk.power_loss()
    registry.start("after short writes")
    registry.engine.close()


def test_rot_in_acknowledged_bytes_is_never_taken_for_a_torn_write():
    """Any byte of any group but a torn last one: reported with its position, never cut."""
    rng = random.Random(7)
    registry = Registry(rng, LossyDisk(rng))
    registry.start("new")
    for number in range(4):
        asyncio.run(registry.engine.append([b"%d" % number] * 3, number * 3))
    registry.engine.close()
    segment = ROOT / "journal" / f"{1:020d}.seg"
    size = registry.disk.open(segment).size()
    for offset in range(size):
        registry.disk.flip(segment, offset)
        engine = FileEngine(ROOT, disk=registry.disk, read_only=True)
        if offset >= size - 28:
            # Only the seal itself looks torn then, and no entry is lost with it.
            assert engine.open().tail == 12
        else:
            with pytest.raises(Damaged) as caught:
                engine.open()
            first_of_group = (1, 4, 7, 10)
            assert caught.value.fields["position"] in first_of_group
            assert caught.value.fields["salvageable"] == caught.value.fields["position"] - 1
        registry.disk.flip(segment, offset)
