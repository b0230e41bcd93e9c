import asyncio

import pytest
from engine_cases import append, entries

from townhall.engine import Entry, Opened
from townhall.engine.memory import MemoryEngine
from townhall.model.errors import Compacted


def opened():
    engine = MemoryEngine()
    engine.open()
    return engine


def test_trim_forgets_exactly_what_it_is_told_to():
    engine = opened()
    append(engine, [b"a", b"b", b"c"])
    engine.save(3, [])
    engine.trim(2)
    engine.trim(1)
    with pytest.raises(Compacted) as caught:
        engine.follow(1)
    assert caught.value.fields["oldest"] == 3
    assert entries(engine, 2) == [Entry(3, b"c")]


def test_a_follower_that_is_overtaken_by_trim_is_told():
    engine = opened()
    append(engine, [b"a", b"b", b"c"])
    following = engine.follow(0)
    assert next(following) == Entry(1, b"a")
    engine.save(3, [])
    engine.trim(3)
    with pytest.raises(Compacted):
        next(following)


def test_others_get_their_turn_during_an_append():
    engine = opened()
    turns = []

    async def main():
        asyncio.get_running_loop().call_soon(turns.append, "other")
        await engine.append([b"a"], 0)
        turns.append("appended")

    asyncio.run(main())
    assert turns == ["other", "appended"]


def test_two_engines_share_nothing():
    one, two = opened(), opened()
    append(one, [b"a"])
    assert two.tail() == 0
    one.close()
    assert one.open() == Opened(0, 1)
