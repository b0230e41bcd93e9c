"""Every setting as a row: its key, command line option, environment variable, type, default and bounds.

Derived from the annotations in ``settings``, so that a setting is written down once.
"""

from __future__ import annotations

import argparse
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from townhall.ops.faces import FACES, FaceRow
from townhall.ops.settings import TOP_LEVEL, Settings

__all__ = ["Setting", "add_options", "room_about", "setting_of", "settings_table"]

_FACES = {row.name: row for row in FACES}


class Setting(NamedTuple):
    """One setting. ``key`` is its place in the TOML file, dotted."""

    room: str
    name: str
    key: str
    option: str
    variable: str
    about: str
    default: object
    kind: type
    choices: tuple[str, ...]
    bounds: str
    metavar: str
    annotation: Any
    """What ``msgspec.convert`` checks a value against."""

    @property
    def listener(self) -> bool:
        """Whether it says where a face listens."""
        return self.room == "listen" and self.name in _FACES


@cache
def settings_table() -> tuple[Setting, ...]:
    """All settings, room by room in the order of ``Settings``."""
    rooms = inspect.type_info(Settings)
    assert isinstance(rooms, inspect.StructType)
    return tuple(_setting(room, field) for room in rooms.fields for field in _fields(room))


def setting_of(key: str) -> Setting | None:
    """The setting with this dotted key, or None."""
    return next((setting for setting in settings_table() if setting.key == key), None)


def room_about(room: str) -> str:
    """What a room's settings are about, for headings."""
    return (_room_type(room).__doc__ or "").strip()


def add_options(parser: argparse.ArgumentParser) -> None:
    """One option for every setting; absent ones leave no trace in the namespace, so that other sources count."""
    for room in Settings.__struct_fields__:
        group = parser.add_argument_group(f"{room} settings", room_about(room))
        for setting in settings_table():
            if setting.room == room:
                _add(group, setting)


def _fields(room: inspect.Field) -> tuple[inspect.Field, ...]:
    assert isinstance(room.type, inspect.StructType)
    return room.type.fields


def _setting(room: inspect.Field, field: inspect.Field) -> Setting:
    annotated = field.type if isinstance(field.type, inspect.Metadata) else inspect.Metadata(field.type)
    kind, choices, bounds = _kind(annotated.type)
    about = str((annotated.extra_json_schema or {}).get("description", ""))
    if room.name == "listen" and field.name in _FACES:
        about = _face_about(_FACES[field.name])
    key = field.name if room.name in TOP_LEVEL else f"{room.name}.{field.name}"
    flat = key.replace(".", "_")
    return Setting(
        room=room.name,
        name=field.name,
        key=key,
        option="--" + flat.replace("_", "-"),
        variable="TOWNHALL_" + flat.upper(),
        about=about,
        default=field.default,
        kind=kind,
        choices=choices,
        bounds=bounds,
        metavar=str((annotated.extra or {}).get("metavar", "")),
        annotation=_annotation(room.name, field.name),
    )


def _face_about(row: FaceRow) -> str:
    return f"{row.about}; usual port {row.port}.{'' if row.face else ' Not in this version.'}"


def _room_type(room: str) -> type[msgspec.Struct]:
    found: type[msgspec.Struct] = next(field.type for field in msgspec.structs.fields(Settings) if field.name == room)
    return found


def _annotation(room: str, name: str) -> Any:
    return next(field.type for field in msgspec.structs.fields(_room_type(room)) if field.name == name)


def _kind(inner: inspect.Type) -> tuple[type, tuple[str, ...], str]:
    match inner:
        case inspect.BoolType():
            return bool, (), ""
        case inspect.IntType():
            return int, (), _bounds(inner.ge, inner.le)
        case inspect.FloatType():
            return float, (), _bounds(inner.ge, inner.le)
        case inspect.LiteralType():
            return str, tuple(str(value) for value in inner.values), ""
        case _:
            return str, (), ""


def _bounds(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"{least} to {most}"
    return f"at least {least}" if least is not None else ""


def _add(group: argparse._ArgumentGroup, setting: Setting) -> None:
    text = setting.about.replace("%", "%%")
    if setting.default not in ("", False) and not setting.listener:
        default = "on" if setting.default is True else setting.default
        text += f" Default {default}" + (f", bounds {setting.bounds}." if setting.bounds else ".")
    if setting.listener:
        group.add_argument(
            setting.option,
            dest=setting.key,
            metavar="HOST:PORT",
            nargs="?",
            const="on",
            default=argparse.SUPPRESS,
            help=text,
        )
    elif setting.kind is bool:
        group.add_argument(
            setting.option,
            dest=setting.key,
            action=argparse.BooleanOptionalAction,
            default=argparse.SUPPRESS,
            help=text,
        )
    else:
        metavar = setting.metavar or ("{" + ",".join(setting.choices) + "}" if setting.choices else "N")
        group.add_argument(setting.option, dest=setting.key, metavar=metavar, default=argparse.SUPPRESS, help=text)
