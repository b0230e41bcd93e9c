"""What the input of a duplex stream causes, answered in the order of the input: the same over HTTP and over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from townhall.core import Outcome
from townhall.core.queries import Reader
from townhall.face import Reply, Submit
from townhall.model.errors import TownhallError
from townhall.serve.waiting import Commands, give_up

if TYPE_CHECKING:
    from townhall.serve.calls import CallDriver
    from townhall.serve.driver import Driver

__all__ = ["Answers", "Place"]


class Place:
    """A place in the order; ``data`` comes when its commands are through."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | None) -> None:
        self.data = data


class Answers:
    """The answers that are not sent yet; its length is how many."""

    __slots__ = ("_asked", "_driver", "places")

    def __init__(self, driver: Driver | CallDriver, asked: Any) -> None:
        """``asked``: the request or the call that all of them belong to."""
        self._driver = driver
        self._asked = asked
        self.places: list[Place] = []

    def __len__(self) -> int:
        return len(self.places)

    def add(self, data: bytes) -> None:
        """One that is known already."""
        self.places.append(Place(data))

    def submit(
        self, submit: Submit, *, waited_for: Callable[[], bool], settled: Callable[[Place, Reply], None]
    ) -> None:
        """One that commands bring. ``settled`` gets what their render made, or the refusal of what it raised, unless
        nobody waits for it any more. Without commands at once.
        """
        place = Place(None)
        self.places.append(place)
        driver, asked = self._driver, self._asked

        def through(results: Sequence[Outcome | TownhallError]) -> None:
            if waited_for():
                settled(place, driver.guard(asked, _render, submit, driver.hub.reader(asked.actor), results))
                return
            driver.counters.dropped += 1
            if submit.abandoned is not None:
                give_up(driver, asked, submit.abandoned, results)

        if submit.commands:
            Commands(driver, submit, asked.actor, through)
        else:
            through(())

    def ready(self) -> list[bytes]:
        """Take those that may be sent: up to the first that is not known yet."""
        found: list[bytes] = []
        for place in self.places:
            if place.data is None:
                break
            found.append(place.data)
        del self.places[: len(found)]
        return found


def _render(submit: Submit, reader: Reader, results: Sequence[Outcome | TownhallError]) -> Reply:
    verb = submit.render(reader, results)
    if not isinstance(verb, Reply):
        raise TypeError(f"a duplex stream's render returned {type(verb).__name__}")
    return verb
