"""Nodes and checks, what belongs to what, and when it last changed.

Everything here but ``nodes`` and ``checks`` themselves is derived from them and from the catalogue; the revisions are
kept in snapshots too. ``Node`` and ``Check`` are immutable, so a snapshot needs no more than a list of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from townhall.model import limits
from townhall.model.check import Check, CheckStatus, Node
from townhall.model.instance import PROBED, Evidence, ServiceKey, Verdict

__all__ = ["CheckIndex", "worst"]

CheckName = tuple[str, str]
"""(node, id)."""
InstanceName = tuple[ServiceKey, str]

_NOBODY: dict[CheckName, None] = {}
_PASSING, _WARNING, _CRITICAL = CheckStatus.PASSING, CheckStatus.WARNING, CheckStatus.CRITICAL
_UP, _DOWN = Verdict.UP, Verdict.DOWN
# Members are compared by identity: an enumeration's own hash is a call of Python's for each check of each judgement.


def worst(checks: Iterable[Check]) -> Check | None:
    """The check that decides: critical before warning before passing, the first among equals; None without any."""
    found: Check | None = None
    for check in checks:
        if found is None or found.status is _PASSING:
            # Among passing ones the first stays.
            if found is None or check.status is not _PASSING:
                found = check
        elif found.status is _WARNING and check.status is _CRITICAL:
            found = check
    return found


class CheckIndex:
    """The book of nodes and checks. Only ``core.evolve_checks``, ``State`` and ``core.codec`` change it."""

    __slots__ = (
        "by_instance", "by_node", "checks", "checks_revision", "instances", "node_floor", "node_level", "node_revisions", "nodes",
        "nodes_revision", "overdue", "places",
    )  # fmt: skip

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.checks: dict[CheckName, Check] = {}
        self.by_node: dict[str, dict[CheckName, None]] = {}
        """All checks of a node."""
        self.node_level: dict[str, dict[CheckName, None]] = {}
        """Those of them that are about the node itself."""
        self.by_instance: dict[InstanceName, tuple[CheckName, ...]] = {}
        """Those about an instance: nearly always one, for which a tuple takes a quarter of a dictionary."""
        self.instances: dict[str, dict[InstanceName, None]] = {}
        """Instances by the node they belong to."""
        self.places: dict[str, dict[str, ServiceKey]] = {}
        """By node, the service of an instance's id: Consul names what is on a node by its id alone."""
        self.overdue: dict[CheckName, None] = {}
        """Critical checks that take their instance out after a while."""
        self.nodes_revision = 0
        self.checks_revision = 0
        self.node_revisions: OrderedDict[str, int] = OrderedDict()
        """Position of the last change of a node, its checks or its instances, also for a while after it went."""
        self.node_floor = 0
        """Nodes forgotten up to this position may not be in ``node_revisions`` any more."""

    # --- changing

    def put(self, check: Check) -> None:
        """Enter a check, in the place of the one of its name."""
        name = (check.node, check.id)
        if name in self.checks:
            self._leave(name)
        self.checks[name] = check
        self.by_node.setdefault(check.node, {})[name] = None
        if check.key is None:
            self.node_level.setdefault(check.node, {})[name] = None
        else:
            instance = (check.key, check.instance)
            self.by_instance[instance] = (*self.by_instance.get(instance, ()), name)
        if check.definition.deregister_after_ms and check.key is not None and check.status is CheckStatus.CRITICAL:
            self.overdue[name] = None

    def update(self, check: Check) -> None:
        """Another status or output of a check that stands; cheaper than ``put``."""
        name = (check.node, check.id)
        self.checks[name] = check
        if check.definition.deregister_after_ms and check.key is not None:
            if check.status is CheckStatus.CRITICAL:
                self.overdue[name] = None
            else:
                self.overdue.pop(name, None)

    def drop(self, name: CheckName) -> Check | None:
        """Take a check out; None when there is none."""
        check = self.checks.get(name)
        if check is not None:
            self._leave(name)
            del self.checks[name]
        return check

    def _leave(self, name: CheckName) -> None:
        check = self.checks[name]
        _discard(self.by_node, check.node, name)
        if check.key is None:
            _discard(self.node_level, check.node, name)
        else:
            instance = (check.key, check.instance)
            left = tuple(each for each in self.by_instance[instance] if each != name)
            if left:
                self.by_instance[instance] = left
            else:
                del self.by_instance[instance]
        self.overdue.pop(name, None)

    def join(self, node: str, instance: InstanceName) -> None:
        """An instance belongs to a node; idempotent."""
        self.instances.setdefault(node, {})[instance] = None
        self.places.setdefault(node, {})[instance[1]] = instance[0]

    def part(self, node: str, instance: InstanceName) -> None:
        """It does not any more; idempotent."""
        _discard(self.instances, node, instance)
        place = self.places.get(node)
        if place is not None and place.get(instance[1]) == instance[0]:
            del place[instance[1]]
            if not place:
                del self.places[node]

    def note_node(self, name: str, position: int) -> None:
        """The node, or what is on it, changed."""
        self.node_revisions[name] = position
        if len(self.node_revisions) > limits.REMOVED_SERVICES_REMEMBERED_MAX + len(self.nodes) + len(self.instances):
            for gone in [name for name in self.node_revisions if not self.present(name)]:
                self.node_floor = max(self.node_floor, self.node_revisions.pop(gone))

    # --- reading

    def present(self, node: str) -> bool:
        """Whether anything is known of this node: itself, a check or an instance."""
        return node in self.nodes or node in self.by_node or node in self.instances

    def of_node(self, node: str) -> Iterator[Check]:
        """All checks of a node, in the order in which they were made."""
        return (self.checks[name] for name in self.by_node.get(node, _NOBODY))

    def of_instance(self, key: ServiceKey, id: str) -> Iterator[Check]:  # noqa: A002 - the catalogue's word
        """The checks of an instance itself."""
        return (self.checks[name] for name in self.by_instance.get((key, id), ()))

    def about_node(self, node: str) -> Iterator[Check]:
        """The checks of a node as a whole."""
        return (self.checks[name] for name in self.node_level.get(node, _NOBODY))

    def concerning(self, key: ServiceKey, id: str, node: str) -> Iterator[Check]:  # noqa: A002
        """Everything that bears on an instance: its own checks, then those of its node."""
        yield from self.of_instance(key, id)
        if node in self.node_level:
            yield from self.about_node(node)

    def verdict(self, key: ServiceKey, id: str, node: str) -> tuple[Verdict | None, str]:  # noqa: A002
        """What the checks say of an instance together, as ``Evidence.probe`` and ``probe_output``."""
        found = worst(self.concerning(key, id, node))
        if found is None:
            return None, ""
        if found.status is _PASSING:
            return _UP, ""
        output = found.output.strip() or found.name or found.id
        if found.status is _WARNING:
            return _UP, _cut(f"warning: {output}")
        return _DOWN, _cut(output)

    def evidence(self, evidence: Evidence, key: ServiceKey, id: str, node: str) -> Evidence:  # noqa: A002
        """The same evidence with what the checks say now. A probe that fails settles a hold by the removal floor."""
        probe, output = self.verdict(key, id, node)
        if evidence is PROBED and probe is _UP and not output:  # nearly always
            return evidence
        held = evidence.held and probe is not _DOWN
        if probe is evidence.probe and output == evidence.probe_output and held == evidence.held:
            return evidence
        return replace(evidence, probe=probe, probe_output=output, held=held)


Key = TypeVar("Key")
Name = TypeVar("Name")


def _cut(text: str) -> str:
    size_max = limits.REASON_SIZE_MAX
    return text if len(text) <= size_max else text[: size_max - 1] + "…"


def _discard(table: dict[Key, dict[Name, None]], key: Key, name: Name) -> None:
    bucket = table.get(key)
    if bucket is not None:
        bucket.pop(name, None)
        if not bucket:
            del table[key]
