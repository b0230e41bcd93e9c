import errno

import pytest
from engine_cases import append, entries, filled, flip

from townhall.engine import Opened
from townhall.engine.file import FileEngine
from townhall.engine.inspection import inspect, salvage
from townhall.model.errors import Damaged, EngineFailed

HEADER, FRAME = 32, 28


def segments(root):
    return sorted((root / "journal").glob("*.seg"))


def many(root, count=12):
    """An open engine, one entry a group, a few groups a segment."""
    engine = FileEngine(root, segment_size=200)
    engine.open()
    for number in range(1, count + 1):
        append(engine, [b"%02d" % number * 15])
    return engine


def salvaged(source, target):
    stock = salvage(source, target)
    engine = FileEngine(target)
    assert engine.open() == Opened(stock.snapshot, stock.tail)
    found = [entry.position for entry in entries(engine, stock.snapshot)]
    engine.close()
    assert inspect(target).damages == ()
    return stock.snapshot, found


def test_a_sound_directory_in_use(tmp_path):
    engine = many(tmp_path / "d")
    engine.save(3, [b"s"])
    report = inspect(tmp_path / "d")
    assert (report.snapshot, report.oldest, report.tail, report.reach) == (3, 1, 12, 12)
    assert (report.salvageable, report.torn_size, report.damages) == (9, 0, ())
    assert report.segments[0].ranges[0][0] == 1
    assert all(segment.size > 0 and segment.is_readable for segment in report.segments)
    assert len(report.segments) == len(segments(tmp_path / "d"))
    engine.close()
    assert salvaged(tmp_path / "d", tmp_path / "new") == (3, list(range(4, 13)))


def test_an_empty_directory_and_one_that_is_none(tmp_path):
    filled(tmp_path / "d", groups=0).close()
    report = inspect(tmp_path / "d")
    assert (report.snapshot, report.oldest, report.tail, report.reach, report.damages) == (0, 0, 0, 0, ())
    with pytest.raises(EngineFailed):
        inspect(tmp_path)


def test_a_torn_tail_is_no_damage(tmp_path):
    many(tmp_path).close()
    with segments(tmp_path)[-1].open("ab") as file:
        file.write(b"torn")
    report = inspect(tmp_path)
    assert (report.torn_size, report.damages, report.reach) == (4, (), 12)
    assert segments(tmp_path)[-1].read_bytes().endswith(b"torn")


def test_damage_in_the_middle_is_told_with_what_lies_on_both_sides(tmp_path):
    filled(tmp_path / "d", groups=6).close()
    flip(segments(tmp_path / "d")[0], HEADER + 2 * (FRAME + 8 + 4) + 30)
    report = inspect(tmp_path / "d")
    assert report.segments[0].ranges == ((1, 4), (7, 12))
    assert [(damage.position, damage.file) for damage in report.damages] == [(5, segments(tmp_path / "d")[0])]
    assert (report.reach, report.salvageable, report.tail) == (4, 4, 12)
    with pytest.raises(Damaged):
        FileEngine(tmp_path / "d").open()
    assert salvaged(tmp_path / "d", tmp_path / "new") == (0, [1, 2, 3, 4])


def test_damage_that_the_snapshot_covers_costs_nothing(tmp_path):
    engine = filled(tmp_path / "d", groups=6)
    engine.save(7, [b"s"])
    engine.close()
    flip(segments(tmp_path / "d")[0], HEADER + 2 * (FRAME + 8 + 4) + 30)
    report = inspect(tmp_path / "d")
    assert [damage.position for damage in report.damages] == [5]
    assert (report.reach, report.salvageable) == (12, 5)
    assert salvaged(tmp_path / "d", tmp_path / "new") == (7, [8, 9, 10, 11, 12])


def test_the_end_of_an_earlier_segment(tmp_path):
    many(tmp_path).close()
    path = segments(tmp_path)[1]
    first, following = int(path.stem), int(segments(tmp_path)[2].stem)
    path.write_bytes(path.read_bytes()[:-5])
    report = inspect(tmp_path)
    assert [(damage.position, damage.file) for damage in report.damages] == [(following - 1, path)]
    assert report.reach == following - 2
    path.write_bytes(path.read_bytes()[:HEADER])
    assert inspect(tmp_path).reach == first - 1
    assert [damage.position for damage in inspect(tmp_path).damages] == [first]


def test_a_lost_segment_and_a_lost_header(tmp_path):
    many(tmp_path / "d").close()
    first, second, third = segments(tmp_path / "d")[:3]
    flip(third, 2)
    report = inspect(tmp_path / "d")
    assert [(damage.position, damage.reason) for damage in report.damages] == [
        (int(third.stem), "the header is damaged")
    ]
    assert not report.segments[2].is_readable
    second.unlink()
    report = inspect(tmp_path / "d")
    assert report.reach == int(second.stem) - 1
    assert [damage.position for damage in report.damages] == [int(second.stem), int(third.stem)]
    first.unlink()
    report = inspect(tmp_path / "d")
    assert report.reach == -1
    assert report.damages[0].position == 1
    with pytest.raises(Damaged, match="can be saved"):
        salvage(tmp_path / "d", tmp_path / "new")


def test_a_damaged_snapshot_with_and_without_the_whole_journal(tmp_path):
    engine = many(tmp_path / "d")
    engine.save(8, [b"snapshot"])
    snapshot = next((tmp_path / "d" / "snapshot").iterdir())
    flip(snapshot, 40)
    report = inspect(tmp_path / "d")
    assert [(damage.position, damage.file) for damage in report.damages] == [(8, snapshot)]
    assert (report.snapshot, report.reach) == (0, 12)
    assert salvaged(tmp_path / "d", tmp_path / "new") == (0, list(range(1, 13)))
    engine.trim(8)
    engine.close()
    report = inspect(tmp_path / "d")
    assert (report.reach, report.salvageable, report.tail) == (-1, 0, 12)
    with pytest.raises(Damaged):
        salvage(tmp_path / "d", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_trimmed_segments_are_no_damage(tmp_path):
    engine = many(tmp_path)
    engine.save(9, [b"s"])
    engine.trim(9)
    engine.close()
    report = inspect(tmp_path)
    assert report.damages == ()
    assert (report.snapshot, report.reach) == (9, 12)
    assert report.oldest > 1


def test_salvage_never_writes_into_what_is_there(tmp_path):
    many(tmp_path / "d").close()
    with pytest.raises(EngineFailed, match="not empty"):
        salvage(tmp_path / "d", tmp_path / "d")


def test_errors_of_reading_are_translated(tmp_path, monkeypatch):
    many(tmp_path).close()

    def refuse(*_):
        raise OSError(errno.EIO, "unreadable")

    monkeypatch.setattr("townhall.engine.inspection.used_size", refuse)
    with pytest.raises(EngineFailed, match="reading"):
        inspect(tmp_path)
