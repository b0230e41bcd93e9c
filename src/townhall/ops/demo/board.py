"""What the demo knows at a moment: providers, calls and events; and the summary at the end. No I/O."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from townhall.ops.table import table

__all__ = ["Board", "Event", "ProviderRow"]


@dataclass(slots=True)
class ProviderRow:
    """One provider, as the consumer sees it."""

    verdict: str = "-"
    weight: float = 0.0
    note: str = ""
    """What the demo did to it."""


@dataclass(slots=True)
class Event:
    """One thing that the demo did. Times are seconds since the demo began."""

    what: str
    at: float
    seen_as: str
    """What it means that the consumer saw it."""
    seen_at: float | None = None

    @property
    def seen_ms(self) -> float | None:
        """Milliseconds until the consumer saw it; None when it has not."""
        return None if self.seen_at is None else max(0.0, (self.seen_at - self.at) * 1_000)

    def outcome(self) -> str:
        """For people."""
        return "not seen" if self.seen_ms is None else f"{self.seen_as} after {duration(self.seen_ms)}"


@dataclass(slots=True)
class Board:
    """Everything that is shown."""

    registry: str = "starting"
    consumer: str = "-"
    elapsed: float = 0.0
    calls: int = 0
    failed: int = 0
    failed_over: int = 0
    """Attempts that failed and were made good by another instance; the caller noticed nothing."""
    gateway_calls: int = 0
    """Made by plain HTTP, without the SDK, through the gateway."""
    gateway_failed: int = 0
    failures: list[str] = field(default_factory=list)
    """The first few failed calls, in words."""
    answers: Counter[str] = field(default_factory=Counter)
    providers: dict[str, ProviderRow] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    interrupted: bool = False
    """Somebody ended the demo, so what had not been seen yet is nobody's fault."""

    @property
    def good(self) -> bool:
        """Whether no call failed and the consumer saw every event."""
        answered = self.calls > 0 and self.gateway_calls > 0 and self.failed == self.gateway_failed == 0
        return answered and all(event.seen_at is not None for event in self.events)

    def lines(self) -> list[str]:
        """The live picture."""
        total = sum(self.answers.values()) or 1
        rows = [
            (name, row.verdict, row.weight, f"{self.answers[name]:,}", _bar(self.answers[name] / total), row.note)
            for name, row in self.providers.items()
        ]
        return [
            f"townhall demo   {self.elapsed:4.1f} s   registry {self.registry}   consumer {self.consumer}",
            f"calls made {self.calls:,}   failed {self.failed:,}   made good by another instance {self.failed_over:,}",
            f"through the gateway {self.gateway_calls:,}   failed {self.gateway_failed:,}   (plain HTTP, no SDK)",
            "",
            *table(("provider", "verdict", "weight", "answers", "share", ""), rows).splitlines(),
            "",
            *(
                # The time stands before the words, so that a narrow terminal cuts the words.
                f"{event.at:5.1f} s  {event.what:<37} {_after(event):>7}  {event.seen_as if event.seen_at else ''}".rstrip()
                for event in self.events
            ),
        ]

    def summary(self) -> str:
        """What is left on the screen."""
        if self.interrupted and not self.calls:
            return "interrupted before the first call"
        rows = [
            (event.what, event.seen_as, "-" if event.seen_ms is None else duration(event.seen_ms))
            for event in self.events
        ]
        lines = [
            f"calls made: {self.calls:,}   calls failed: {self.failed:,}   "
            f"(attempts made good by another instance: {self.failed_over:,})",
            f"through the gateway, without SDK: {self.gateway_calls:,}   failed: {self.gateway_failed:,}",
            "",
            table(("event", "the consumer saw", "after"), rows),
            "",
            f"{self.elapsed:.1f} s; {self._judgement()}",
        ]
        return "\n".join(lines)

    def _judgement(self) -> str:
        if self.interrupted and not (self.failed or self.gateway_failed):
            return "interrupted before its end; until then every call was answered"
        return "every call was answered and every event was seen" if self.good else "NOT GOOD: " + self._fault()

    def _fault(self) -> str:
        unseen = [event.what for event in self.events if event.seen_at is None]
        faults = [f"{self.failed} calls failed"] if self.failed else []
        faults += [f"{self.gateway_failed} calls through the gateway failed"] if self.gateway_failed else []
        faults += self.failures
        faults += [f"not seen: {', '.join(unseen)}"] if unseen else []
        return "; ".join(faults) or "no call was made"


def duration(milliseconds: float) -> str:
    """``0.8 ms``, ``12 ms`` or ``1.3 s``."""
    if milliseconds < 10:
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.0f} ms" if milliseconds < 1_000 else f"{milliseconds / 1_000:.1f} s"


def _after(event: Event) -> str:
    return "…" if event.seen_ms is None else duration(event.seen_ms)


def _bar(share: float) -> str:
    return f"{'█' * round(share * 20):<20} {share:4.0%}"
