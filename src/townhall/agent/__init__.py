"""Registering what cannot register itself: programs that are started here, service files, containers.

* A ``definitions.Definition`` says what to register and how to look at it. It comes from the command line, a file
  (TOML, Consul's JSON) or a container's labels.
* ``lookout.Lookout`` looks at one of them with the probers of ``townhall.probe`` and tells of each change.
* ``keeper.Keeper`` is what this process holds in the registry: everything on one lease with one heartbeat, brought in
  step with what is wanted whenever the registry answers.
* ``supervisor.Supervisor`` runs one program and brings the three together: ``townhall run``.

Nothing here may hold a program hostage: a registry that is away or refuses is told of and tried again, and the
program is started, signalled and ended all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Notice", "Tell"]


class Notice(NamedTuple):
    """Something that the operator should read."""

    event: str
    """One word: ``registered``, ``out``, ``back``, ``away``, ``refused``, ``deregistered``, ``started``, ``ended``, …"""
    text: str
    service: str = ""
    warning: bool = False


Tell = Callable[[Notice], None]
