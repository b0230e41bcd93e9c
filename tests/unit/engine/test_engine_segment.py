import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from townhall.engine import segment
from townhall.engine.lossy import LossyDisk
from townhall.engine.segment import (
    HEADER_SIZE,
    Header,
    find_frame,
    new_header,
    pack_frame,
    pack_header,
    read_all_frames,
    read_frames,
    read_header,
    split_frame,
)

SALT = b"saltsalt"


def stored(data: bytes):
    file = LossyDisk(random.Random(0)).open(Path("/f"), create=True)
    file.write_at(0, data)
    return file


def written(groups, first=1):
    """A whole segment and the offsets of its frames, and the end."""
    data = pack_header(Header(first, SALT))
    offsets = []
    for blobs in groups:
        offsets.append(len(data))
        data += pack_frame(SALT, first, blobs)
        first += len(blobs)
    return data, [*offsets, len(data)]


def read(data: bytes, expected=1):
    header = Header(expected, SALT)
    frames = read_frames(stored(data), header, HEADER_SIZE, end=len(data), expected=expected)
    return [split_frame(frame) for frame in frames]


def test_the_format_is_frozen():
    """Journals of older versions stay readable: a change here needs a new format version."""
    header = pack_header(Header(5, SALT))
    assert header.hex() == "54485345470000010500000000000000" + SALT.hex() + "00000000" + "a9529692"
    frame = pack_frame(SALT, 5, [b"ab", b"c"])
    assert (
        frame.hex()
        == "2d266adc" + SALT.hex() + "0500000000000000" + "02000000" + "0b000000" + "0200000001000000" + "616263"
    )
    assert read_header(stored(header)) == Header(5, SALT)


def test_header_salts_are_random_and_never_zero(monkeypatch):
    assert new_header(1).salt != new_header(1).salt
    answers = iter([bytes(8), SALT])
    monkeypatch.setattr(segment.os, "urandom", lambda _: next(answers))
    assert new_header(3) == Header(3, SALT)


def test_every_changed_or_missing_byte_of_a_header_is_noticed():
    data = pack_header(Header(9, SALT))
    for index in range(HEADER_SIZE):
        assert read_header(stored(data[:index])) is None
        assert read_header(stored(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])) is None


@given(st.lists(st.lists(st.binary(max_size=50), max_size=5), max_size=6))
def test_groups_come_back(groups):
    data, _ = written(groups)
    assert read(data) == groups
    assert read(data + bytes(1000)) == groups


def test_every_truncation_gives_the_whole_groups_before_it():
    groups = [[b"a" * 20, b""], [b"b"], [], [b"c", b"d" * 30]]
    data, offsets = written(groups)
    for length in range(HEADER_SIZE, len(data) + 1):
        whole = sum(1 for offset in offsets[1:] if offset <= length)
        assert read(data[:length]) == groups[:whole]


def test_every_changed_byte_ends_the_reading_before_its_group():
    groups = [[b"a" * 20], [b"b", b"c" * 5], [b"d"]]
    data, offsets = written(groups)
    for index in range(HEADER_SIZE, len(data)):
        changed = data[:index] + bytes([data[index] ^ 0x40]) + data[index + 1 :]
        whole = sum(1 for offset in offsets[1:] if offset <= index)
        assert read(changed) == groups[:whole]


def test_a_frame_of_another_position_or_an_absurd_size_is_none():
    data, _ = written([[b"a"]])
    assert read(data, expected=2) == []
    head = struct.pack("<8sQII", SALT, 1, 1, 0xFFFFFFFF)
    assert read(pack_header(Header(1, SALT)) + b"1234" + head + bytes(100)) == []


@pytest.mark.parametrize("block_size", [1, 29, 64, 1000])
def test_blocks_of_any_size_give_the_same(monkeypatch, block_size):
    monkeypatch.setattr(segment, "REPLAY_BLOCK_SIZE", block_size)
    groups = [[bytes([number]) * number for number in range(count)] for count in range(12)]
    data, offsets = written(groups)
    assert read(data) == groups
    assert [frame[2] for frame in read_all_frames(stored(data), Header(1, SALT))] == offsets[:-1]


@pytest.mark.parametrize("block_size", [40, 64, 100_000])
def test_what_lies_behind_damage_is_found(monkeypatch, block_size):
    monkeypatch.setattr(segment, "REPLAY_BLOCK_SIZE", block_size)
    groups = [[b"a"], [b"b" * 90], [b"c"], [b"d"]]
    data, offsets = written(groups)
    changed = data[: offsets[1] + 40] + b"!" + data[offsets[1] + 41 :]
    header, file = Header(1, SALT), stored(changed)
    assert find_frame(file, header, offsets[1], end=len(data), at_least=2) == (offsets[2], 3)
    assert find_frame(file, header, offsets[1], end=len(data), at_least=4) == (offsets[3], 4)
    assert find_frame(file, header, offsets[3] + 1, end=len(data), at_least=4) is None
    assert [frame[0] for frame in read_all_frames(file, header)] == [1, 3, 4]


def test_stored_bytes_that_look_like_another_segments_frames_are_not_taken_for_frames():
    foreign = pack_frame(b"othersal", 2, [b"x"])
    data, offsets = written([[b"a"], [foreign]])
    torn = data[:-1]
    assert find_frame(stored(torn), Header(1, SALT), offsets[1], end=len(torn), at_least=2) is None
