"""A call that goes on after it was answered, because its answer is a stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from townhall.client.chooser import Chooser
from townhall.client.records import Instance

__all__ = ["Opened"]

T = TypeVar("T")


class Opened(Generic[T]):
    """What ``ServiceHandle.open`` gives. Until ``close`` or ``fail`` the call counts as running at its instance.

    What balancers learn of the instance's speed is the time until the answer began, not how long its stream lasts.
    """

    __slots__ = ("_answered_ms", "_begun_ms", "_chooser", "_open", "_report", "instance", "value")

    def __init__(
        self,
        value: T,
        instance: Instance,
        chooser: Chooser,
        report: Callable[[Instance, str], None],
        *,
        begun_ms: float,
    ) -> None:
        self.value = value
        """What the function returned."""
        self.instance = instance
        """The one that answers."""
        self._chooser = chooser
        self._report = report
        self._begun_ms = begun_ms
        self._answered_ms = time.monotonic() * 1000
        self._open = True
        chooser.answered(instance)

    def close(self) -> None:
        """It is over. Idempotent, and does nothing after ``fail``."""
        self._end(failed=False)

    def fail(self, kind: str) -> None:
        """It broke by the instance's fault (``ServiceHandle.failed`` has the kinds): it is over, and reported."""
        if self._open:
            self._report(self.instance, kind)
        self._end(failed=True)

    def _end(self, *, failed: bool) -> None:
        if not self._open:
            return
        self._open = False
        self._chooser.ended(
            self.instance,
            begun_ms=self._begun_ms,
            now_ms=time.monotonic() * 1000,
            answered_ms=self._answered_ms,
            failed=failed,
        )
