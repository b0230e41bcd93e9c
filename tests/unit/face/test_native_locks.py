from __future__ import annotations

import pytest
from native_world import World, events

from townhall.face import Park, Submit
from townhall.face.native.locks import queue_name
from townhall.model import limits
from townhall.model.errors import InvalidField


@pytest.fixture
def world() -> World:
    return World()


def lease(world: World) -> str:
    return str(world.send("POST", "/leases", {"kind": "keys"}).json["lease"])


def parked(world: World, name: str, holder: str, wait_ms: int = 5_000) -> Park:
    verb = world.verb("POST", f"/api/v1/locks/{name}", {"lease": holder, "wait_ms": wait_ms})
    assert isinstance(verb, Submit)
    verb = verb.render(world.reader(), [world.run(command) for command in verb.commands])
    assert isinstance(verb, Park)
    return verb


def test_the_first_holds_and_the_second_is_refused(world: World) -> None:
    first, second = lease(world), lease(world)
    held = world.send("POST", "/locks/build", {"lease": first, "value": "host1"}).json
    assert held["held"] is True
    assert held["key"].startswith("locks/build/")
    assert held["value"] == "host1"
    again = world.send("POST", "/locks/build", {"lease": first}).json
    assert again["fence"] == held["fence"]
    refused = world.send("POST", "/locks/build", {"lease": second})
    assert refused.status == 409
    assert refused.json["holder"] == {"lease": first, "fence": held["fence"], "value": "host1"}
    assert refused.json["position_in_queue"] == 1
    shown = world.send("GET", "/locks/build").json
    assert (shown["holder"]["lease"], shown["waiters"], shown["fence"]) == (first, 0, held["fence"])


def test_release_and_fences_grow(world: World) -> None:
    first, second = lease(world), lease(world)
    fence = world.send("POST", "/locks/build", {"lease": first}).json["fence"]
    assert world.send("DELETE", f"/locks/build?lease={first}").status == 204
    assert world.send("DELETE", f"/locks/build?lease={first}").status == 404
    assert world.send("GET", "/locks/build").json["holder"] is None
    assert world.send("POST", "/locks/build", {"lease": second}).json["fence"] > fence
    world.send("DELETE", f"/leases/{second}")
    assert world.send("GET", "/locks/build").json["holder"] is None


def test_waiting_until_held(world: World) -> None:
    first, second = lease(world), lease(world)
    world.send("POST", "/locks/build", {"lease": first})
    park = parked(world, "build", second)
    assert park.wait_ms == 5_000
    assert park.attempt(world.reader(), False) is None
    assert world.send("GET", "/locks/build").json["waiters"] == 1
    world.send("DELETE", f"/locks/build?lease={first}")
    reply = park.attempt(world.reader(), False)
    assert reply is not None
    assert world.finish(reply).status == 200
    assert park.abandoned is not None
    assert list(park.abandoned()) == []


def test_at_the_deadline_the_place_is_given_up(world: World) -> None:
    first, second = lease(world), lease(world)
    world.send("POST", "/locks/build", {"lease": first})
    park = parked(world, "build", second)
    refused = world.finish(park.attempt(world.reader(), True))
    assert refused.status == 409
    assert world.send("GET", "/locks/build").json["waiters"] == 0


def test_a_waiter_that_vanished_leaves_the_queue(world: World) -> None:
    first, second = lease(world), lease(world)
    world.send("POST", "/locks/build", {"lease": first})
    park = parked(world, "build", second)
    assert park.abandoned is not None
    for command in park.abandoned():
        world.run(command)
    assert world.send("GET", "/locks/build").json["waiters"] == 0


def test_an_earlier_request_does_not_give_up_the_place_of_a_later_one(world: World) -> None:
    first, second = lease(world), lease(world)
    world.send("POST", "/locks/build", {"lease": first})
    broken = parked(world, "build", second)
    again = parked(world, "build", second)
    assert broken.abandoned is not None
    assert list(broken.abandoned()) == []
    assert world.finish(broken.attempt(world.reader(), True)).status == 409
    assert world.send("GET", "/locks/build").json["waiters"] == 1
    world.send("DELETE", f"/locks/build?lease={first}")
    assert world.finish(again.attempt(world.reader(), False)).status == 200


def asked(world: World, name: str, holder: str) -> Submit:
    verb = world.verb("POST", f"/api/v1/locks/{name}", {"lease": holder, "wait_ms": 5_000})
    assert isinstance(verb, Submit)
    return verb


def cut_off(world: World, submit: Submit) -> None:
    """Nobody is there any more when the writer is done."""
    assert submit.abandoned is not None
    for command in submit.abandoned([world.run(command) for command in submit.commands]):
        world.run(command)


@pytest.mark.parametrize("held", [False, True])
def test_one_that_vanishes_while_it_is_put_into_the_queue_does_not_stay_there(world: World, held: bool) -> None:
    first, second = lease(world), lease(world)
    if held:
        world.send("POST", "/locks/build", {"lease": first})
    cut_off(world, asked(world, "build", second))
    shown = world.send("GET", "/locks/build").json
    assert shown["waiters"] == 0
    assert (shown["holder"] or {}).get("lease") == (first if held else None)


def test_one_that_holds_already_does_not_lose_it_by_asking_again_in_vain(world: World) -> None:
    first = lease(world)
    fence = world.send("POST", "/locks/build", {"lease": first}).json["fence"]
    cut_off(world, asked(world, "build", first))
    assert world.send("GET", "/locks/build").json["fence"] == fence


def test_when_all_requests_of_a_lease_are_cut_off_its_place_is_gone(world: World) -> None:
    first = lease(world)
    early, late = asked(world, "build", first), asked(world, "build", first)
    cut_off(world, early)
    assert world.send("GET", "/locks/build").json["holder"]["lease"] == first, "the later one may be answered yet"
    cut_off(world, late)
    assert world.send("GET", "/locks/build").json["holder"] is None


def test_one_whose_lease_had_ended_leaves_nothing(world: World) -> None:
    first = lease(world)
    submit = asked(world, "build", first)
    world.send("DELETE", f"/leases/{first}")
    cut_off(world, submit)
    assert world.send("GET", "/locks/build").json["holder"] is None
    again = lease(world)
    assert world.send("POST", "/locks/build", {"lease": again}).status == 200


def test_a_waiter_whose_lease_ended_is_told(world: World) -> None:
    first, second = lease(world), lease(world)
    world.send("POST", "/locks/build", {"lease": first})
    park = parked(world, "build", second)
    world.send("DELETE", f"/leases/{second}")
    assert world.finish(park.attempt(world.reader(), False)).status == 409


def test_names_with_slashes_are_other_locks(world: World) -> None:
    first, second = lease(world), lease(world)
    assert world.send("POST", "/locks/a", {"lease": first}).status == 200
    assert world.send("POST", "/locks/a/b", {"lease": second}).status == 200
    assert world.send("GET", "/locks/a/b").json["name"] == "a/b"
    assert queue_name("a/b", election=False) != queue_name("a%2Fb", election=False)
    assert queue_name("@a", election=False) != queue_name("a", election=True)
    with pytest.raises(InvalidField):
        queue_name("", election=False)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"lease": "x"}, 400),
        ({"lease": "5"}, 404),
        ({"lease": "5", "wait_ms": -1}, 400),
        ({"lease": "5", "wait_ms": limits.WAIT_MAX_MS + 1}, 400),
        ({"lease": "5", "zork": 1}, 400),
        (b"", 400),
    ],
)
def test_bad_requests(world: World, body: object, status: int) -> None:
    assert world.send("POST", "/locks/build", body).status == status
    assert world.state.position == 0
    assert world.send("DELETE", "/locks/build").json["field"] == "lease"
    assert world.send("POST", "/locks/" + "x" * 200, {"lease": "5"}).status == 400


def test_elections(world: World) -> None:
    first, second = lease(world), lease(world)
    world.send("POST", "/locks/boss", {"lease": second})
    led = world.send("POST", "/elections/boss", {"lease": first, "value": "h1"})
    assert led.status == 200
    stream = world.stream("/elections/boss?watch=1")
    pulled = stream.pull(world.reader())
    assert pulled is not None
    ((name, data, _),) = events(pulled.data)
    assert (name, data["holder"]["value"]) == ("leader", "h1")
    assert world.send("PUT", "/elections/boss", {"lease": first, "value": "h1b"}).json["fence"] == led.json["fence"]
    pulled = stream.pull(world.reader())
    assert pulled is not None
    assert events(pulled.data)[0][1]["holder"]["value"] == "h1b"
    verb = world.verb("POST", "/api/v1/elections/boss", {"lease": second, "value": "h2", "wait_ms": 9})
    assert isinstance(verb, Submit)
    verb.render(world.reader(), [world.run(command) for command in verb.commands])
    assert stream.pull(world.reader()) is None
    assert world.send("PUT", "/elections/boss", {"lease": second, "value": "x"}).json["code"] == "conflict"
    assert world.send("PUT", "/elections/boss", {"lease": "9", "value": "x"}).status == 404
    assert world.send("PUT", "/locks/boss", {"lease": second, "value": "x"}).status == 405
    world.send("DELETE", f"/elections/boss?lease={first}")
    pulled = stream.pull(world.reader())
    assert pulled is not None
    assert events(pulled.data)[0][1]["holder"]["lease"] == second
    world.send("DELETE", f"/leases/{second}")
    pulled = stream.pull(world.reader())
    assert pulled is not None
    assert events(pulled.data)[0][1]["holder"] is None


def test_too_many_waiters(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits.LOCK_WAITERS_MAX > 100
    monkeypatch.setattr(limits, "LOCK_WAITERS_MAX", 1)
    world.send("POST", "/locks/build", {"lease": lease(world)})
    assert world.send("POST", "/locks/build", {"lease": lease(world), "wait_ms": 1_000}).status == 429
