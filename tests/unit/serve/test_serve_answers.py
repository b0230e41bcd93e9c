"""The answers of a duplex stream: in the order of the input, whenever they are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from townhall.face import Reply, Submit
from townhall.serve.answers import Answers, Place


class Driver:
    """Holds what is submitted; ``guard`` lets through."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, Any]] = []
        self.counters = SimpleNamespace(dropped=0)
        self.hub = SimpleNamespace(reader=lambda actor: actor)

    def submit(self, command: Any, actor: Any, done: Any) -> None:
        self.waiting.append((command, done))

    def guard(self, asked: Any, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except TypeError as error:
            return Reply(500, str(error).encode())


def test_answers_wait_for_those_before_them() -> None:
    driver: Any = Driver()
    answers = Answers(driver, SimpleNamespace(actor="actor"))
    settled: list[Reply] = []

    def settle(place: Place, verb: Reply) -> None:
        settled.append(verb)
        place.data = verb.body

    there = True

    def submit(*commands: str, render: Any = None, abandoned: Any = None) -> None:
        made = render or (lambda reader, results: Reply(200, ",".join(results).encode()))
        answers.submit(Submit(commands, made, abandoned), waited_for=lambda: there, settled=settle)  # type: ignore[arg-type]

    answers.add(b"1")
    submit("a", "b")
    submit()
    answers.add(b"")
    assert answers.ready() == [b"1"]
    assert len(answers) == 3
    for command, done in driver.waiting:
        done(command.upper())
    assert answers.ready() == [b"A,B", b"", b""]
    assert not answers
    submit(render=lambda reader, results: None)
    assert settled[-1].status == 500
    driver.waiting.clear()
    submit("c", abandoned=lambda results: [f"undo {results[0]}"])
    submit("d")
    there = False
    for command, done in list(driver.waiting):
        done(command)
    assert [command for command, _ in driver.waiting] == ["c", "d", "undo c"]
    assert driver.counters.dropped == 2
    assert len(answers) == 3
