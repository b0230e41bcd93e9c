import errno
import random
from pathlib import Path

import pytest

from townhall.engine import Entry
from townhall.engine.journal import Journal, find_tail, segment_name, segment_positions, used_size
from townhall.engine.lossy import LossyDisk
from townhall.model import limits
from townhall.model.errors import Compacted, Damaged, EngineFailed, EngineFull, OutcomeUnknown

ROOT = Path("/j")
HEADER, FRAME = 32, 28


def lossy():
    return LossyDisk(random.Random(0))


def loaded(disk, snapshot=0, *, read_only=False, segment_size=1000):
    journal = Journal(disk, ROOT, segment_size=segment_size)
    journal.load(snapshot, read_only=read_only)
    return journal


def filled(disk, count, *, segment_size=100, size=30):
    """One entry a group, three groups a segment with the sizes as they are."""
    journal = loaded(disk, segment_size=segment_size)
    for number in range(1, count + 1):
        journal.append([b"%d" % number + b"x" * size], number - 1)
    return journal


def size_of(disk, first=1):
    return disk.open(ROOT / segment_name(first)).size()


def positions(journal, after=0):
    return [entry.position for entry in journal.follow(after)]


def test_names_sort_as_positions_do():
    assert segment_name(7) == "00000000000000000007.seg"
    names = [segment_name(10), segment_name(9), "00000000000000000003.seg.tmp", "3.seg", "x"]
    assert segment_positions(names) == [9, 10]


def test_segments_rotate_and_follow_crosses_them():
    disk = lossy()
    journal = filled(disk, 10)
    assert len(journal.view.segments) > 2
    assert journal.view.segments[0] == 1
    for after in range(11):
        assert positions(journal, after) == list(range(after + 1, 11))
    journal.close()
    again = loaded(disk)
    assert again.view.tail == 10
    assert positions(again) == list(range(1, 11))


def test_a_segment_smaller_than_its_header_still_takes_a_group_each():
    disk = lossy()
    journal = filled(disk, 4, segment_size=1)
    assert journal.view.segments == (1, 2, 3, 4)
    journal.close()
    again = loaded(disk, segment_size=1)
    again.append([b"five"], 4)
    assert positions(again) == [1, 2, 3, 4, 5]


def test_space_is_reserved_ahead_and_given_back():
    disk = lossy()
    journal = loaded(disk, segment_size=5_000)
    journal.append([b"a"], 0)
    assert size_of(disk) == 5_000
    journal.close()
    assert size_of(disk) == HEADER + FRAME + 5 + FRAME  # With the seal.


def test_the_usual_segment_is_reserved_in_steps_and_left_when_it_is_full():
    disk = lossy()
    journal = Journal(disk, ROOT)
    journal.load(0)
    journal.append([b"a"], 0)
    assert size_of(disk) == limits.SEGMENT_ALLOCATE_SIZE
    journal.append([bytes(limits.SEGMENT_ALLOCATE_SIZE)], 1)
    assert size_of(disk) == 2 * limits.SEGMENT_ALLOCATE_SIZE
    journal.append([bytes(limits.SEGMENT_SIZE)], 2)
    assert journal.view.segments == (1,)
    journal.append([b"b"], 3)
    assert journal.view.segments == (1, 4)
    assert positions(journal) == [1, 2, 3, 4]


def test_without_room_for_the_reserve_the_group_itself_still_fits():
    disk = lossy()
    disk.capacity = 1_000
    journal = loaded(disk, segment_size=5_000)
    assert journal.append([b"a" * 800], 0) == 1


def test_a_seal_is_written_once_and_only_after_new_groups():
    disk = lossy()
    filled(disk, 2).close()
    size = size_of(disk)
    for _ in range(3):
        journal = loaded(disk)
        journal.close()
        journal.close()
    assert size_of(disk) == size
    assert loaded(disk).append([b"x"], 2) == 3


@pytest.mark.parametrize("garbage", [b"\xff" * 10, b"half", bytes(5) + b"x"])
def test_the_rest_of_a_torn_write_is_dropped_and_counted(garbage):
    disk = lossy()
    journal = filled(disk, 2)
    end = journal.view.end
    file = disk.open(ROOT / segment_name(1), write=True)
    file.write_at(end, garbage)
    assert loaded(disk, read_only=True).view.tail == 2
    assert size_of(disk) >= end + len(garbage)
    again = loaded(disk)
    assert (again.view.tail, again.torn_size, size_of(disk)) == (2, len(garbage), end)
    assert again.append([b"x"], 2) == 3
    assert positions(again) == [1, 2, 3]


def test_a_torn_last_group_is_dropped_at_every_length():
    disk = lossy()
    journal = filled(disk, 3, segment_size=10_000)
    end = journal.view.end
    start = end - (FRAME + 4 + 31)
    for length in range(start, end):
        torn = LossyDisk(random.Random(0))
        data = disk.open(ROOT / segment_name(1)).read_at(0, size=length)
        torn.open(ROOT / segment_name(1), create=True).write_at(0, data)
        again = loaded(torn)
        assert again.view.tail == 2
        assert again.append([b"third"], 2) == 3
        assert list(again.follow(2)) == [Entry(3, b"third")]


def test_damage_before_the_last_group_is_told_with_position_and_what_is_sound():
    disk = lossy()
    filled(disk, 5, segment_size=10_000)
    disk.flip(ROOT / segment_name(1), HEADER + 2 * (FRAME + 4 + 31) + 40)
    for read_only in (True, False):
        with pytest.raises(Damaged) as caught:
            loaded(disk, read_only=read_only)
        assert caught.value.fields == {"position": 3, "salvageable": 2}


def test_damage_in_an_earlier_segment_is_told_when_it_is_reached():
    disk = lossy()
    filled(disk, 9).close()
    disk.flip(ROOT / segment_name(1), HEADER + FRAME + 4 + 31 + 35)
    journal = loaded(disk)
    seen = []
    with pytest.raises(Damaged) as caught:
        seen.extend(entry.position for entry in journal.follow(0))
    assert seen == [1]
    assert caught.value.fields == {"position": 2, "salvageable": 1}


def test_a_damaged_header_is_told():
    disk = lossy()
    journal = filled(disk, 9)
    first, last = journal.view.segments[0], journal.view.segments[-1]
    journal.close()
    disk.flip(ROOT / segment_name(first), 3)
    with pytest.raises(Damaged) as caught:
        list(loaded(disk).follow(0))
    assert caught.value.fields["position"] == 1
    disk.flip(ROOT / segment_name(last), 3)
    with pytest.raises(Damaged) as caught:
        loaded(disk)
    assert caught.value.fields == {"position": last, "salvageable": last - 1}


def test_a_missing_segment_is_damage_unless_the_snapshot_covers_it():
    disk = lossy()
    journal = filled(disk, 9)
    second, third = journal.view.segments[1:3]
    journal.close()
    disk.remove(ROOT / segment_name(second))
    with pytest.raises(Damaged) as caught:
        list(loaded(disk).follow(0))
    assert caught.value.fields["position"] == second
    with pytest.raises(Compacted) as compacted:
        list(loaded(disk, snapshot=third - 1).follow(0))
    assert compacted.value.fields["oldest"] == third
    assert positions(loaded(disk, snapshot=third - 1), third - 1) == list(range(third, 10))


def test_a_segment_removed_under_an_open_journal_is_damage():
    disk = lossy()
    journal = filled(disk, 9)
    disk.remove(ROOT / segment_name(journal.view.segments[1]))
    with pytest.raises(Damaged):
        list(journal.follow(0))


def test_trim_removes_whole_segments_and_never_the_last():
    disk = lossy()
    journal = filled(disk, 9)
    first, second, third = journal.view.segments[:3]
    journal.trim(second - 2)
    assert journal.view.segments[0] == first
    journal.trim(third - 1)
    assert journal.view.segments[0] == third
    with pytest.raises(Compacted) as caught:
        journal.follow(0)
    assert caught.value.fields["oldest"] == third
    assert positions(journal, third - 1) == list(range(third, 10))
    journal.trim(9)
    assert len(journal.view.segments) == 1
    assert segment_positions(disk.names(ROOT)) == list(journal.view.segments)
    assert journal.append([b"ten"], 9) == 10


def test_a_follower_that_is_overtaken_by_trim_is_told():
    journal = filled(lossy(), 9)
    following = journal.follow(0)
    assert next(following).position == 1
    journal.trim(9)
    with pytest.raises(Compacted):
        list(following)


def test_behind_a_snapshot_that_is_ahead_a_new_segment_begins():
    disk = lossy()
    filled(disk, 2).close()
    journal = loaded(disk, snapshot=7)
    assert journal.view.tail == 7
    assert positions(journal, 7) == []
    with pytest.raises(Compacted):
        positions(journal, 1)
    assert journal.append([b"eight"], 7) == 8
    assert positions(journal, 7) == [8]
    journal.close()
    again = loaded(disk, snapshot=7)
    assert positions(again, 7) == [8]
    again.trim(7)
    assert segment_positions(disk.names(ROOT)) == [8]


def test_a_full_disk_takes_back_what_was_written_and_goes_on():
    disk = lossy()
    journal = filled(disk, 1)
    end = journal.view.end
    disk.capacity = end + 20
    with pytest.raises(EngineFull):
        journal.append([b"x" * 100], 1)
    assert size_of(disk) == end
    assert positions(journal) == [1]
    disk.capacity = 10_000
    assert journal.append([b"x" * 100], 1) == 2
    assert positions(journal) == [1, 2]


def test_a_full_disk_at_a_new_segment_leaves_the_old_one_in_use():
    disk = lossy()
    journal = filled(disk, 2)
    disk.capacity = size_of(disk)
    with pytest.raises(EngineFull):
        journal.append([b"x"], 2)
    assert segment_positions(disk.names(ROOT)) == [1]
    assert len(disk.names(ROOT)) == 1
    disk.capacity = 10_000
    assert journal.append([b"x"], 2) == 3
    assert journal.view.segments == (1, 3)


def test_after_a_failed_sync_only_reopening_helps():
    disk = lossy()
    journal = filled(disk, 1)
    disk.failing_syncs = 1
    with pytest.raises(OutcomeUnknown):
        journal.append([b"x"], 1)
    assert journal.view.tail == 1
    assert positions(journal) == [1]
    with pytest.raises(EngineFailed, match="no more writes since"):
        journal.append([b"y"], 1)
    journal.close()
    assert loaded(disk).view.tail == 2


def test_a_new_segment_that_cannot_be_made_sure_writes_nothing():
    disk = lossy()
    journal = filled(disk, 2)
    disk.failing_syncs = 1
    with pytest.raises(EngineFailed, match="creating"):
        journal.append([b"x"], 2)
    with pytest.raises(EngineFailed, match="no more writes since"):
        journal.append([b"x"], 2)
    assert loaded(disk).view.tail == 2


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, OutcomeUnknown), (errno.ENOSPC, EngineFull)])
def test_a_write_error_that_cannot_be_taken_back_ends_writing(number, kind, monkeypatch):
    disk = lossy()
    journal = filled(disk, 1)

    def refuse(*_):
        raise OSError(number, "no")

    monkeypatch.setattr("townhall.engine.lossy._LossyFile.write_at", refuse)
    monkeypatch.setattr("townhall.engine.lossy._LossyFile.truncate", refuse)
    with pytest.raises(kind):
        journal.append([b"x"], 1)
    monkeypatch.undo()
    with pytest.raises(EngineFailed, match="no more writes since"):
        journal.append([b"x"], 1)


def test_errors_of_reading_are_translated(monkeypatch):
    disk = lossy()
    journal = filled(disk, 3)

    def refuse(*_, **__):
        raise OSError(errno.EIO, "unreadable")

    monkeypatch.setattr("townhall.engine.lossy._LossyFile.read_at", refuse)
    with pytest.raises(EngineFailed, match="reading"):
        list(journal.follow(0))
    with pytest.raises(EngineFailed, match="opening"):
        loaded(disk)
    monkeypatch.setattr(disk, "remove", refuse)
    with pytest.raises(EngineFailed, match="trimming"):
        journal.trim(99)


def test_the_last_group_is_written_once_more_at_a_start():
    """A failed sync leaves bytes that read well and are not on the disk; a start must not show them unsynced."""
    disk = lossy()
    journal = filled(disk, 1)
    disk.failing_syncs = 1
    with pytest.raises(OutcomeUnknown):
        journal.append([b"x"], 1)
    assert loaded(disk).view.tail == 2
    disk.power_loss()
    assert loaded(disk).view.tail == 2


def test_a_writer_at_work_is_not_taken_for_damage():
    """A reader that saw half a group and then a whole one behind it looks again before it calls it damage."""
    disk = lossy()
    filled(disk, 3, segment_size=10_000)
    whole = disk.open(ROOT / segment_name(1))
    second = HEADER + FRAME + 4 + 31

    class Racing:
        """The first read ends within the second group, as if it had not been written to its end yet."""

        def __init__(self):
            self.reads = 0

        def size(self):
            return whole.size()

        def read_at(self, offset, *, size):
            data = whole.read_at(offset, size=size)
            self.reads += 1
            return data[: second + 10 - offset] + bytes(len(data) - (second + 10 - offset)) if self.reads == 2 else data

    racing = Racing()
    _, tail = find_tail(racing, [1])
    assert tail.position == 3
    assert racing.reads > 3


def test_used_size_finds_the_last_byte_that_is_not_zero(monkeypatch):
    monkeypatch.setattr("townhall.engine.journal.REPLAY_BLOCK_SIZE", 7)
    file = lossy().open(ROOT / "x", create=True)
    file.write_at(0, b"head" + bytes(30))
    assert used_size(file, 4, 34) == 0
    file.write_at(20, b"x")
    assert used_size(file, 4, 34) == 17
