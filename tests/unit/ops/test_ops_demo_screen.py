from __future__ import annotations

import io
import os

import pytest

from townhall.ops.demo.board import Board, Event, ProviderRow, duration
from townhall.ops.demo.screen import Plain, Terminal


def board() -> Board:
    found = Board(registry="127.0.0.1:1", consumer="connected", elapsed=3.5, calls=100, gateway_calls=9)
    found.answers.update({"alpha": 60, "beta": 40})
    found.providers.update({"alpha": ProviderRow("up", 1.0), "beta": ProviderRow("suspect", 2.0, "killed")})
    found.events.append(Event("kill -9 beta", 2.0, "it may not be called", 2.012))
    return found


def test_good_means_no_failed_call_and_every_event_seen():
    found = board()
    assert found.good
    found.failed = 1
    assert not found.good
    found.failed = 0
    found.gateway_failed = 1
    assert not found.good
    found.gateway_failed = 0
    found.events.append(Event("x", 3.0, "y"))
    assert not found.good
    assert not Board().good


def test_lines_and_summary_tell_everything():
    found = board()
    text = "\n".join(found.lines())
    assert "alpha" in text
    assert "60%" in text
    assert "12 ms  it may not be called" in text
    summary = found.summary()
    assert "calls made: 100" in summary
    assert "calls failed: 0" in summary
    assert "12 ms" in summary
    assert "every call was answered" in summary


def test_summary_names_the_fault():
    found = board()
    found.failed = 2
    found.failures = ["at 1.0 s: Unreachable: gone"]
    found.events.append(Event("hang gamma", 3.0, "y"))
    summary = found.summary()
    assert "NOT GOOD: 2 calls failed; at 1.0 s: Unreachable: gone; not seen: hang gamma" in summary


def test_who_interrupts_is_not_told_that_something_was_wrong():
    found = board()
    found.events.append(Event("hang gamma", 3.0, "y"))
    found.interrupted = True
    assert "interrupted before its end; until then every call was answered" in found.summary()
    found.failed = 1
    assert "NOT GOOD: 1 calls failed" in found.summary()
    assert Board(interrupted=True).summary() == "interrupted before the first call"


def test_a_narrow_terminal_still_shows_how_long_each_event_took(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 30)))
    out = io.StringIO()
    Terminal(out).show(board())
    assert "12 ms" in out.getvalue()


@pytest.mark.parametrize(("ms", "text"), [(0.84, "0.8 ms"), (12.3, "12 ms"), (999, "999 ms"), (1300, "1.3 s")])
def test_durations(ms, text):
    assert duration(ms) == text


def test_terminal_redraws_in_place_and_gives_the_cursor_back():
    out = io.StringIO()
    screen = Terminal(out)
    screen.show(board())
    first = len(out.getvalue())
    screen.show(board())
    again = out.getvalue()[first:]
    assert again.startswith("\x1b[")
    assert "A\r" in again
    screen.close(board())
    assert "\x1b[?25h" in out.getvalue()
    assert out.getvalue().count("\x1b[?25l") == 1


def test_plain_has_no_escapes_and_tells_each_event_once():
    out = io.StringIO()
    screen = Plain(out)
    found = board()
    for _ in range(3):
        screen.show(found)
    found.events.append(Event("drain", 3.4, "it is draining"))
    screen.show(found)
    found.events[-1].seen_at = 3.5
    screen.close(found)
    text = out.getvalue()
    assert "\x1b" not in text
    body = text[: text.index("calls made:")]
    assert body.count("drain: it is draining after 100 ms") == 1
    assert body.count("kill -9 beta\n") == 1
