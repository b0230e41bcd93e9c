"""The catalogue again, as plainly as possible: lists, loops and copies, nothing cached, nothing shared with the core.

Every command recounts everything it needs. What changed is found by comparing copies from before and after.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

from townhall.core import Rules, commands
from townhall.model.instance import ServiceKey, Verdict
from townhall.model.lease import EndReason, LeaseKind

Record = dict[str, Any]
DEFINITION = (
    "address", "port", "ports", "tags", "metadata", "weight", "region", "zone", "cluster", "enabled", "ready", "protocol", "node",
)  # fmt: skip


class Refusal(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def verdict_of(record: Record) -> Verdict:
    if record["override"] is not None:
        return Verdict(record["override"])
    if record["maintenance"] or not record["enabled"]:
        return Verdict.MAINTENANCE
    if record["draining_at"]:
        return Verdict.DRAINING
    if record["lapsed_at"] or record["disconnected_at"]:
        return Verdict.SUSPECT
    if record["critical"]:
        return Verdict.DOWN
    if record["report"]:
        return Verdict.SUSPECT
    return Verdict.UP if record["ready"] else Verdict.STARTING


def callable_(record: Record) -> bool:
    verdict = verdict_of(record)
    return verdict is Verdict.UP or (verdict is Verdict.SUSPECT and record["held"])


def expected(record: Record) -> bool:
    if record["override"] is not None:
        return bool(record["override"] == Verdict.UP)
    return bool(record["enabled"] and record["ready"] and not record["draining_at"] and not record["maintenance"])


class NaiveCatalogue:
    def __init__(self, rules: Rules, node: str, draw_lease: Callable[[], int]) -> None:
        self.rules = rules
        self.node = node
        self.draw_lease = draw_lease
        self.position = 0
        self.now = 0
        self.instances: dict[tuple[ServiceKey, str], Record] = {}
        self.services: dict[ServiceKey, Record] = {}
        self.leases: dict[int, Record] = {}
        self.silent: list[int] = []
        self.gone: list[tuple[ServiceKey, str, int]] = []
        self.gone_ephemeral: list[tuple[ServiceKey, str, int]] = []
        self.checks: dict[tuple[str, str], Record] = {}

    def run(self, command: Any, now_ms: int) -> str:
        """Apply; "" when accepted, else the error's code."""
        self.now = now_ms
        before = self._picture()
        self.dirty = False
        try:
            getattr(self, "on_" + type(command).__name__)(command)
        except Refusal as refusal:
            assert before == self._picture(), "a refusal changes nothing"
            return refusal.code
        self._probe()
        if self._picture() != before or self.dirty:
            self.position += 1
            self._note_changes(before)
        return ""

    def _probe(self) -> None:
        """Forget the checks of what is gone, and judge everything by all checks there are."""
        for name, check in list(self.checks.items()):
            if check["key"] is not None and (check["key"], check["instance"]) not in self.instances:
                del self.checks[name]
        for (key, id_), record in self.instances.items():
            record["critical"] = any(
                check["status"] == "critical" and self._concerns(name, check, key, id_)
                for name, check in self.checks.items()
            )
            record["held"] = record["held"] and not record["critical"]

    def _concerns(self, name: tuple[str, str], check: Record, key: ServiceKey, id_: str) -> bool:
        if check["key"] is None:
            return bool(self.instances[key, id_]["node"] == name[0])
        return (check["key"], check["instance"]) == (key, id_)

    def _touch(self, name: tuple[str, str], check: Record) -> None:
        self.dirty = True
        for (key, id_), record in self.instances.items():
            if self._concerns(name, check, key, id_):
                record["touched"] = record.get("touched", 0) + 1

    def _picture(self) -> tuple[Any, ...]:
        return copy.deepcopy((self.instances, self.services, self.leases))

    def _note_changes(self, before: tuple[Any, ...]) -> None:
        old_instances, old_services, _ = before
        touched = {key for key, old in old_services.items() if self.services.get(key) != old}
        touched |= self.services.keys() - old_services.keys()
        for name in old_instances.keys() | self.instances.keys():
            old, new = old_instances.get(name), self.instances.get(name)
            if old == new:
                continue
            touched.add(name[0])
            if new is not None:
                new["revision"] = self.position
                if new["incarnation"] == 0:
                    new["incarnation"] = self.position
                    new["since"] = self.now
                elif old is None or verdict_of(old) != verdict_of(new):
                    new["since"] = self.now
        for key in touched:
            if key in self.services:
                self.services[key]["revision"] = self.position

    # --- helpers -----------------------------------------------------------------------------------------------------

    def _find(self, command: Any) -> Record:
        record = self.instances.get((command.key, command.id))
        if record is None:
            raise Refusal("not_found")
        if getattr(command, "incarnation", 0) not in {0, record["incarnation"]}:
            raise Refusal("fenced")
        return record

    def _on(self, lease_id: int) -> list[tuple[ServiceKey, str]]:
        return sorted(name for name, record in self.instances.items() if record["lease"] == lease_id)

    def _load(self, lease_id: int) -> int:
        return len(self._on(lease_id)) + len(self.leases[lease_id]["keys"])

    def _service(self, key: ServiceKey) -> Record:
        return self.services.setdefault(
            key, {"explicit": False, "metadata": {}, "floor": 0.5, "drain_ms": 30_000, "revision": 0}
        )

    def _tidy(self, key: ServiceKey) -> None:
        if key in self.services and not self.services[key]["explicit"] and not any(k == key for k, _ in self.instances):
            del self.services[key]
            self.gone = [entry for entry in self.gone if entry[0] != key]

    def _remove(self, name: tuple[ServiceKey, str], *, silent: bool) -> None:
        record = self.instances.pop(name)
        if silent and expected(record):
            self.gone.append((*name, self.now))
            if record["lease"]:
                self.gone_ephemeral.append((*name, self.now))
        self._tidy(name[0])

    def _end(self, lease_id: int, *, silent: bool) -> None:
        for name in self._on(lease_id):
            self._remove(name, silent=silent)
        del self.leases[lease_id]
        if lease_id in self.silent:
            self.silent.remove(lease_id)

    def _recover(self, lease_id: int) -> None:
        lease = self.leases[lease_id]
        if not lease["lapsed_at"] and not lease["disconnected_at"]:
            return
        lease.update(lapsed_at=0, disconnected_at=0)
        self.silent.remove(lease_id)
        for name in self._on(lease_id):
            self.instances[name].update(lapsed_at=0, disconnected_at=0, held=False)

    def _ttl(self, ttl_ms: int) -> int:
        if ttl_ms == 0:
            return self.rules.lease_ttl_default_ms
        if ttl_ms < self.rules.lease_ttl_min_ms:
            raise Refusal("invalid_field")
        return ttl_ms

    def _grant(self, lease_id: int, ttl_ms: int, *, own: bool, kind: LeaseKind = LeaseKind.INSTANCE) -> int:
        self.leases[lease_id] = {
            "ttl": ttl_ms, "owner": self.node, "epoch": 1, "kind": kind, "own": own, "lapsed_at": 0, "disconnected_at": 0, "keys": set(),
        }  # fmt: skip
        return lease_id

    # --- the floor ---------------------------------------------------------------------------------------------------

    def _room(self, key: ServiceKey | None) -> int:
        """How many more may fall silent: in one service, or (None) among all with a lease."""
        rules = self.rules
        if key is None:
            records = [record for record in self.instances.values() if record["lease"]]
            gone, ratio, least = self.gone_ephemeral, rules.registry_floor, rules.registry_floor_instances_min
        else:
            records = [record for (k, _), record in self.instances.items() if k == key]
            gone, ratio = [entry for entry in self.gone if entry[0] == key], self.services[key]["floor"]
            least = rules.floor_instances_min
        known = sum(map(expected, records)) + sum(at > self.now - rules.floor_window_ms for _, _, at in gone)
        needed = math.floor(known * ratio) if known >= least else 0
        return sum(map(callable_, records)) - needed

    def _may_fall(self, names: list[tuple[ServiceKey, str]]) -> bool:
        falling = [n for n in names if callable_(self.instances[n]) and self.instances[n]["override"] is None]
        if not falling:
            return True
        keys = {key for key, _ in falling}
        enough = all(self._room(key) >= sum(k == key for k, _ in falling) for key in keys)
        ephemeral = sum(self.instances[n]["lease"] != 0 for n in falling)
        return enough and (ephemeral == 0 or self._room(None) >= ephemeral)

    def _silence(self, lease_id: int, evidence: str) -> None:
        names = self._on(lease_id)
        held = not self._may_fall(names)
        for name in names:
            record = self.instances[name]
            keep = held and callable_(record) and record["override"] is None
            record.update({evidence: self.now, "held": keep})
        self.leases[lease_id][evidence] = self.now
        if lease_id not in self.silent:
            self.silent.append(lease_id)

    # --- instances ---------------------------------------------------------------------------------------------------

    def on_Register(self, c: commands.Register) -> None:  # noqa: N802
        name = (c.key, c.id)
        old = self.instances.get(name)
        if c.persistent and c.lease:
            raise Refusal("invalid_field")
        same = old is not None and (not c.claim or not old["claim"] or c.claim == old["claim"])
        old_lease = old["lease"] if old is not None else 0
        lease = self._choose_lease(c, old_lease if same else 0)
        if lease:
            self._recover(lease)
        fields = {field: getattr(c, field) for field in DEFINITION}
        self._service(c.key)
        if old is not None and same:
            changed_lease = lease != old_lease
            old.update(fields, lease=lease, claim=c.claim or old["claim"])
            if changed_lease:
                old.update(lapsed_at=0, disconnected_at=0, held=False)
        else:
            self.instances[name] = fields | {
                "lease": lease, "claim": c.claim, "incarnation": 0, "registered_at": self.now, "revision": 0, "since": 0, "lapsed_at": 0,
                "disconnected_at": 0, "held": False, "override": None, "maintenance": "", "draining_at": 0, "drain_deadline": 0, "report": "",
                "critical": False,
            }  # fmt: skip
            self.gone = [entry for entry in self.gone if entry[:2] != name]
            self.gone_ephemeral = [entry for entry in self.gone_ephemeral if entry[:2] != name]
        if old_lease and old_lease != lease and self._load(old_lease) == 0:
            self._end(old_lease, silent=False)

    def _choose_lease(self, c: commands.Register, old_lease: int) -> int:
        if c.persistent:
            return 0
        if c.lease:
            if c.lease not in self.leases:
                raise Refusal("lease_not_found")
            if self.leases[c.lease]["kind"] is LeaseKind.KEYS:
                raise Refusal("conflict")
            return c.lease
        if old_lease:
            if c.ttl_ms and self.leases[old_lease]["own"]:
                self.leases[old_lease]["ttl"] = self._ttl(c.ttl_ms)
            return old_lease
        ttl_ms = self._ttl(c.ttl_ms)
        return self._grant(self.draw_lease(), ttl_ms, own=True)

    def on_Deregister(self, c: commands.Deregister) -> None:  # noqa: N802
        record = self._find(c)
        if c.claim and record["claim"] and c.claim != record["claim"]:
            raise Refusal("fenced")
        self._remove((c.key, c.id), silent=False)
        lease = record["lease"]
        if lease and self.leases[lease]["own"] and self._load(lease) == 0:
            self._end(lease, silent=False)

    def on_PatchInstance(self, c: commands.PatchInstance) -> None:  # noqa: N802
        record = self._find(c)
        for field in ("tags", "weight", "enabled", "ready", "zone"):
            if getattr(c, field) is not None:
                record[field] = getattr(c, field)
        merged = record["metadata"] | (c.metadata or {})
        record["metadata"] = {k: v for k, v in merged.items() if v is not None}

    def on_SetOverride(self, c: commands.SetOverride) -> None:  # noqa: N802
        record = self._find(c)
        if record["override"] != c.verdict:
            record.update(override=c.verdict, held=record["held"] and c.verdict is None)

    def on_SetMaintenance(self, c: commands.SetMaintenance) -> None:  # noqa: N802
        self._find(c)["maintenance"] = "" if c.reason is None else c.reason or "maintenance"

    def on_StartDrain(self, c: commands.StartDrain) -> None:  # noqa: N802
        record = self._find(c)
        if record["draining_at"] and not c.deadline_ms:
            return
        record["draining_at"] = record["draining_at"] or self.now
        record["drain_deadline"] = self.now + (c.deadline_ms or self.services[c.key]["drain_ms"])
        self.dirty = True  # A deadline that happens to be the same is still a fact.

    def on_CancelDrain(self, c: commands.CancelDrain) -> None:  # noqa: N802
        self._find(c).update(draining_at=0, drain_deadline=0)

    def on_MarkReported(self, c: commands.MarkReported) -> None:  # noqa: N802
        record = self.instances.get((c.key, c.id))
        if record is None or record["incarnation"] != c.incarnation or record["report"] == c.report:
            return
        silent = record["lapsed_at"] or record["disconnected_at"]
        if c.report and not silent and not self._may_fall([(c.key, c.id)]):
            return
        record.update(report=c.report, held=record["held"] and not c.report)

    # --- services ----------------------------------------------------------------------------------------------------

    def on_PutService(self, c: commands.PutService) -> None:  # noqa: N802
        service = self._service(c.key)
        service["explicit"] = True
        if c.metadata is not None:
            service["metadata"] = c.metadata
        if c.settings is not None:
            service.update(floor=c.settings.floor, drain_ms=c.settings.drain_deadline_ms)

    def on_DeleteService(self, c: commands.DeleteService) -> None:  # noqa: N802
        if c.key not in self.services:
            raise Refusal("not_found")
        if any(key == c.key for key, _ in self.instances):
            raise Refusal("conflict")
        self.services[c.key]["explicit"] = False
        self._tidy(c.key)

    # --- leases ------------------------------------------------------------------------------------------------------

    def on_GrantLease(self, c: commands.GrantLease) -> None:  # noqa: N802
        ttl_ms = self._ttl(c.ttl_ms)
        if c.id in self.leases:
            raise Refusal("already_exists")
        self._grant(c.id or self.draw_lease(), ttl_ms, own=False, kind=c.kind)

    def on_EndLease(self, c: commands.EndLease) -> None:  # noqa: N802
        if c.id not in self.leases:
            raise Refusal("lease_not_found")
        if c.epoch and c.epoch != self.leases[c.id]["epoch"]:
            raise Refusal("fenced")
        self._end(c.id, silent=c.reason is EndReason.EXPIRED)

    def on_LapseLeases(self, c: commands.LapseLeases) -> None:  # noqa: N802
        for lease_id, epoch in c.leases:
            lease = self.leases.get(lease_id)
            if lease is None or lease["epoch"] != epoch or lease["lapsed_at"]:
                continue
            if lease["kind"] is LeaseKind.KEYS:
                self._end(lease_id, silent=True)
            else:
                self._silence(lease_id, "lapsed_at")

    def on_RecoverLease(self, c: commands.RecoverLease) -> None:  # noqa: N802
        if c.id not in self.leases:
            raise Refusal("lease_not_found")
        self._recover(c.id)

    def on_SetConnection(self, c: commands.SetConnection) -> None:  # noqa: N802
        for lease_id in c.leases:
            lease = self.leases.get(lease_id)
            if lease is None or lease["kind"] is LeaseKind.KEYS or (lease["disconnected_at"] == 0) == c.up:
                continue
            if not c.up:
                self._silence(lease_id, "disconnected_at")
                continue
            lease["disconnected_at"] = 0
            for name in self._on(lease_id):
                self.instances[name]["disconnected_at"] = 0
                self.instances[name]["held"] = self.instances[name]["held"] and lease["lapsed_at"] != 0
            if not lease["lapsed_at"]:
                self.silent.remove(lease_id)

    def on_Sweep(self, c: commands.Sweep) -> None:  # noqa: N802
        done = 0
        for lease_id in list(self.silent):
            if done >= c.count_max:
                break
            lease = self.leases[lease_id]
            held = [name for name in self._on(lease_id) if self.instances[name]["held"]]
            if held:
                since = min(at for at in (lease["lapsed_at"], lease["disconnected_at"]) if at)
                if self.now - since >= self.rules.floor_hold_max_ms or self._may_fall(held):
                    for name in held:
                        self.instances[name]["held"] = False
                    done += 1
            elif lease["lapsed_at"] and self.now >= lease["lapsed_at"] + self.rules.eviction_grace_ttls * lease["ttl"]:
                self._end(lease_id, silent=True)
                done += 1

    def on_TakeOverLeases(self, c: commands.TakeOverLeases) -> None:  # noqa: N802
        for lease in self.leases.values():
            if not c.owner or lease["owner"] == c.owner:
                lease.update(owner=self.node, epoch=lease["epoch"] + 1)

    def on_Transact(self, c: commands.Transact) -> None:  # noqa: N802
        """One put of one key, which moves it to another lease."""
        (put,) = c.transaction.success
        if put.lease and put.lease not in self.leases:
            raise Refusal("lease_not_found")
        for lease in self.leases.values():
            lease["keys"].discard(put.key)
        if put.lease:
            self.leases[put.lease]["keys"].add(put.key)
        self.dirty = True

    # --- checks ------------------------------------------------------------------------------------------------------

    def on_PutCheck(self, c: commands.PutCheck) -> None:  # noqa: N802
        name = (c.node, c.id)
        if c.key is not None and (c.key, c.instance) not in self.instances:
            raise Refusal("not_found")
        assert c.status is not None
        old, new = self.checks.get(name), {"key": c.key, "instance": c.instance, "status": c.status.value}
        if old == new:
            return
        self.checks[name] = new
        if old is not None:
            self._touch(name, old)
        self._touch(name, new)

    def on_SetCheck(self, c: commands.SetCheck) -> None:  # noqa: N802
        check = self._check(c)
        if check["status"] != c.status.value:
            check["status"] = c.status.value
            self._touch((c.node, c.id), check)

    def on_DeleteCheck(self, c: commands.DeleteCheck) -> None:  # noqa: N802
        check = self._check(c)
        self._touch((c.node, c.id), check)
        del self.checks[c.node, c.id]

    def _check(self, c: commands.SetCheck | commands.DeleteCheck) -> Record:
        check = self.checks.get((c.node, c.id))
        if check is None:
            raise Refusal("not_found")
        return check
