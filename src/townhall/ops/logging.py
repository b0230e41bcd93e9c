"""Logs on stderr: a line for people, or one JSON object a line for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final, TextIO

__all__ = ["JsonLines", "TextLines", "configure", "set_level"]

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes that every record has; whatever else it has came by ``extra``."""


class TextLines(logging.Formatter):
    """``2031-05-01T10:00:00.123Z INFO townhall.hub: message key=value``; a traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        extra = "".join(f" {key}={value}" for key, value in _extra(record).items())
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = f"{_time(record.created)} {record.levelname} {record.name}: {message}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """``{"time":…,"level":…,"logger":…,"message":…}`` with what came by ``extra`` beside it."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        entry: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update(_extra(record))
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """Send all logs to ``stream`` (stderr), in the form "text" or "json". Replaces what was configured before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    """Change the least severity of everything that is logged."""
    logging.getLogger().setLevel(level.upper())
    # asyncio's own debug lines drown everything else and concern its developers only.
    logging.getLogger("asyncio").setLevel("INFO" if level == "debug" else level.upper())


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _OWN}


def _time(seconds: float) -> str:
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1000):03d}Z"
