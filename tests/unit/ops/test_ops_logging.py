from __future__ import annotations

import io
import json
import logging
import re
import sys

import pytest

from townhall.ops.logging import JsonLines, TextLines, configure, set_level


@pytest.fixture(autouse=True)
def restore_root():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: str, exc_info=None, **extra) -> logging.LogRecord:
    return logging.getLogger("townhall.test").makeRecord(
        "townhall.test", logging.WARNING, "f", 1, message, (), exc_info, extra=extra
    )


def test_text_is_one_line_whatever_the_message_holds():
    line = TextLines().format(record("first\nsecond\r", lease=7))
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING townhall\.test: first\\nsecond\\r lease=7", line
    )


def test_json_has_fields_and_the_exception():
    try:
        raise ValueError("broken")
    except ValueError:
        entry = json.loads(JsonLines().format(record('quoted "x"', sys.exc_info(), lease=7, key=b"raw")))
    assert entry["level"] == "warning"
    assert entry["message"] == 'quoted "x"'
    assert entry["lease"] == 7
    assert "ValueError: broken" in entry["exception"]


def test_configure_replaces_and_the_level_can_be_changed():
    stream = io.StringIO()
    configure(level="warning", form="json", stream=stream)
    configure(level="warning", form="text", stream=stream)
    log = logging.getLogger("townhall.test")
    log.info("quiet")
    set_level("debug")
    log.debug("loud")
    assert stream.getvalue().count("\n") == 1
    assert "loud" in stream.getvalue()
    assert not logging.getLogger("asyncio").isEnabledFor(logging.DEBUG)
