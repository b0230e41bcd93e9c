"""Effective settings from four sources: options, then environment, then the TOML file, then defaults.

``load`` validates whole: every problem of every source is collected, and ``BadConfig`` lists them all, so that a
file is repaired in one go. Reading the file is the only I/O.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from townhall.model import limits
from townhall.model.durations import duration_ms
from townhall.model.errors import InvalidField, Misuse
from townhall.ops.faces import FACES, built_faces
from townhall.ops.listen import Endpoint, endpoint
from townhall.ops.options import Setting, setting_of, settings_table
from townhall.ops.settings import TOP_LEVEL, Settings
from townhall.ops.ties import ties_of

__all__ = ["BadConfig", "Effective", "load", "read_file"]

CLIENT_VARIABLES: Final = frozenset(
    {
        "TOWNHALL_SERVER",
        "TOWNHALL_TOKEN",
        "TOWNHALL_NAMESPACE",
        "TOWNHALL_GROUP",
        "TOWNHALL_CONFIG",
        "TOWNHALL_FENCE",
        "TOWNHALL_LOCK",
    }
)
"""Variables of the client commands and of ``lock``, which are not settings of a registry."""
_BOOLEANS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


class BadConfig(Misuse):
    """The configuration cannot be used; ``problems`` has one line each, naming the source, the key and the remedy."""

    code = "bad_config"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems), problems=problems)
        self.problems = problems


class Source(NamedTuple):
    """Where a value comes from: ``rank`` decides, ``text`` is for people."""

    rank: int
    text: str


DEFAULT: Final = Source(0, "default")
DEV_PRESET: Final = Source(0, "default with --dev")
_DEV_VALUES: Final[Mapping[str, int]] = {
    "lease.ttl_min_ms": limits.LEASE_TTL_DEV_MIN_MS,
    "probe.deregister_min_ms": limits.DEREGISTER_CRITICAL_DEV_MIN_MS,
    "probe.reap_interval_ms": limits.DEREGISTER_CRITICAL_DEV_MIN_MS,
}


class Effective(NamedTuple):
    """What ``load`` found."""

    settings: Settings
    sources: Mapping[str, Source]
    """By the setting's key."""
    listeners: Mapping[str, Endpoint]
    """Faces that are on, in the order of the table."""
    warnings: tuple[str, ...]


def load(
    options: Mapping[str, object], environ: Mapping[str, str], file: Mapping[str, Any] | None = None, *, path: str = ""
) -> Effective:
    """Merge the sources. ``options`` is keyed by setting key; ``file`` is the parsed TOML of ``path``.

    Raises ``BadConfig`` with every problem found.
    """
    problems: list[str] = []
    values: dict[str, object] = {}
    sources: dict[str, Source] = {}
    layers = (
        (_from_file(file or {}, path, problems), 1),
        (_from_environment(environ), 2),
        ({s.key: (options[s.key], f"option {s.option}") for s in settings_table() if s.key in options}, 3),
    )
    for layer, rank in layers:
        for key, (raw, where) in layer.items():
            setting = setting_of(key)
            assert setting is not None
            try:
                values[key] = _convert(setting, raw)
                sources[key] = Source(rank, where)
            except (msgspec.ValidationError, InvalidField) as error:
                problems.append(f"{where}: {_plain(error, setting, raw)}")
    _settle_dev(values, sources, problems)
    settings = _build(values)
    listeners = _listeners(settings, sources, problems)
    _check_together(settings, problems)
    if problems:
        raise BadConfig(problems)
    every = {s.key: sources.get(s.key, DEFAULT) for s in settings_table()}
    return Effective(settings, every, listeners, tuple(_warnings(environ)))


def read_file(path: str) -> dict[str, Any]:
    """Parse a TOML file. Raises ``BadConfig`` when it cannot be read or is not TOML."""
    import tomllib  # noqa: PLC0415 - most registries start without a file

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise BadConfig([f"--config {path}: {error.strerror or error}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig([f"{path} is not TOML: {error}"]) from error


def data_directory(settings: Settings, environ: Mapping[str, str]) -> str:
    """Where the journal lies: ``data``, else $XDG_STATE_HOME/townhall, else ~/.local/state/townhall."""
    if settings.node.data:
        return os.path.abspath(os.path.expanduser(settings.node.data))
    state = environ.get("XDG_STATE_HOME") or os.path.join(
        environ.get("HOME") or os.path.expanduser("~"), ".local", "state"
    )
    return os.path.join(state, "townhall")


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[object, str]]:
    # An empty variable counts as not set: that is how unit files and compose files blank one out.
    return {
        setting.key: (environ[setting.variable], f"environment {setting.variable}")
        for setting in settings_table()
        if environ.get(setting.variable)
    }


def _from_file(content: Mapping[str, Any], path: str, problems: list[str]) -> dict[str, tuple[object, str]]:
    found: dict[str, tuple[object, str]] = {}
    known = [setting.key for setting in settings_table()]
    rooms = [room for room in Settings.__struct_fields__ if room not in TOP_LEVEL]
    for name, value in content.items():
        if name in rooms and isinstance(value, Mapping):
            pairs = {f"{name}.{inner}": content for inner, content in value.items()}
        elif name in rooms:
            problems.append(f"{path}: {name} is a table, write [{name}]")
            continue
        else:
            pairs = {name: value}
        for key, content_value in pairs.items():
            if key in known:
                found[key] = (content_value, f"{path}: {key}")
            else:
                problems.append(f"{path}: unknown key {key!r}{_nearest(key, known + rooms)}")
    return found


def _convert(setting: Setting, raw: object) -> object:
    if isinstance(raw, str):
        raw = _from_text(setting, raw)
    elif setting.listener:
        # A file may say `consul = 8500` or `consul = true`.
        raw = ("on" if raw else "off") if isinstance(raw, bool) else str(raw) if isinstance(raw, int) else raw
    if setting.listener and isinstance(raw, str):
        endpoint(raw, usual_port=0, field=setting.key)
    return msgspec.convert(raw, setting.annotation)


def _from_text(setting: Setting, text: str) -> object:
    if setting.kind is bool:
        if text.lower() not in _BOOLEANS:
            raise InvalidField(setting.key, f"{text!r} is neither true nor false")
        return _BOOLEANS[text.lower()]
    if setting.kind is str:
        return text
    if setting.name.endswith("_ms"):
        text = text.strip()
        try:
            return duration_ms(f"{text}ms" if text.isdecimal() else text)
        except ValueError as error:
            raise InvalidField(setting.key, str(error), advice="a plain number is milliseconds") from error
    try:
        return setting.kind(text)
    except ValueError as error:
        raise InvalidField(setting.key, f"{text!r} is not a number") from error


def _settle_dev(values: dict[str, object], sources: dict[str, Source], problems: list[str]) -> None:
    """``--dev`` and ``--data`` exclude each other: the stronger source wins, the same source is a contradiction."""
    if not values.get("dev"):
        return
    if values.get("data"):
        dev, data = sources["dev"].rank, sources["data"].rank
        if dev == data:
            problems.append(f"{sources['dev'].text} and {sources['data'].text} exclude each other: choose one")
        elif dev > data:
            values.pop("data")
            sources.pop("data")
        else:
            values["dev"] = False
            sources["dev"] = sources["data"]
            return
    for key, value in _DEV_VALUES.items():
        if key not in values:
            values[key] = value
            sources[key] = DEV_PRESET


def _build(values: Mapping[str, object]) -> Settings:
    rooms: dict[str, dict[str, object]] = {}
    for setting in settings_table():
        if setting.key in values:
            rooms.setdefault(setting.room, {})[setting.name] = values[setting.key]
    # Listener values were validated one by one; convert checks the rest once more as a whole.
    return msgspec.convert(rooms, Settings)


def _listeners(settings: Settings, sources: Mapping[str, Source], problems: list[str]) -> dict[str, Endpoint]:
    everything = settings.node.dev or settings.listen.all
    found: dict[str, Endpoint] = {}
    for row in FACES:
        text = getattr(settings.listen, row.name)
        asked = sources.get(row.name)
        if asked is None and everything and row.face:
            text = "on"
        where = endpoint(text, usual_port=row.port, field=row.name)
        if where is None:
            if row.name == "native":
                problems.append(
                    f"{asked.text if asked else 'native'}: the native face is always on; give it a port, or 0 for a free one"
                )
        elif not row.face:
            problems.append(
                f"{asked.text if asked else row.name}: the {row.name} face is not in this version; it has "
                f"{', '.join(built_faces())}"
            )
        else:
            found[row.name] = where
    return found


def _check_together(settings: Settings, problems: list[str]) -> None:
    if settings.lease.ttl_default_ms < settings.lease.ttl_min_ms:
        problems.append("lease.ttl_default_ms is below lease.ttl_min_ms")
    try:
        ties_of(settings.layouts)
    except InvalidField as error:
        problems.append(str(error))
    if not settings.tls.cert:
        problems.extend(
            f"tls.{name} is of no use without tls.cert" for name in ("key", "client_ca") if getattr(settings.tls, name)
        )


def _warnings(environ: Mapping[str, str]) -> list[str]:
    # Only near misses are told: container platforms put variables such as TOWNHALL_SERVICE_HOST there by themselves.
    known = [setting.variable for setting in settings_table()]
    found = []
    for name in environ:
        if name.startswith("TOWNHALL_") and name not in known and name not in CLIENT_VARIABLES:
            near = difflib.get_close_matches(name, known, 1, 0.85)
            if near:
                found.append(f"environment variable {name} is not a setting; did you mean {near[0]}?")
    return found


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1, 0.5)
    if not near:
        last = key.rpartition(".")[2]
        near = [other for other in known if other.rpartition(".")[2] == last][:1]
    return f"; did you mean {near[0]!r}?" if near else "; see docs/configuration.md for all keys"


def _plain(error: Exception, setting: Setting, raw: object) -> str:
    if isinstance(error, InvalidField):
        text = error.message.partition(": ")[2]
        return f"{text} ({error.advice})" if error.advice else text
    if setting.choices:
        return f"{raw!r} is none of {', '.join(setting.choices)}"
    if setting.bounds and not isinstance(raw, (bool, list, dict)):
        least, _, most = setting.bounds.removeprefix("at least ").partition(" to ")
        return f"{raw!r} is not between {least} and {most}" if most else f"{raw!r} is less than {least}"
    return str(error).replace("Expected", "expected").replace("`", "")
