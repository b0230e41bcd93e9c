"""Drives two servers with one random program and compares what they answer. Run by ``differential.py``.

usage: random_program.py THEIRS OURS SEED STEPS

The program is a function of the seed alone: it never looks at an answer, except for the revision, which both must
share. Watches are compared as what each one was told in its order; how many events travel in one message is free.
"""

from __future__ import annotations

import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from aetcd.rpc import rpc_pb2 as pb

KEYS = [b"", b"\0", b"a", b"a\0", b"aa", b"ab", b"b", b"b/1", b"b/2", b"b/3", b"c", b"\xff", b"\xff\xff"]
LEASES = [0, 1, 2, 3, 4, 77, -5]
FREE = {"cluster_id", "member_id", "raft_term"}
QUIET_S = 0.25
CALL_S = 10
METHODS = {
    "Range": ("KV", pb.RangeResponse), "Put": ("KV", pb.PutResponse), "DeleteRange": ("KV", pb.DeleteRangeResponse),
    "Txn": ("KV", pb.TxnResponse), "Compact": ("KV", pb.CompactionResponse),
    "LeaseGrant": ("Lease", pb.LeaseGrantResponse), "LeaseRevoke": ("Lease", pb.LeaseRevokeResponse),
    "LeaseTimeToLive": ("Lease", pb.LeaseTimeToLiveResponse), "LeaseLeases": ("Lease", pb.LeaseLeasesResponse),
}  # fmt: skip


def plain(message: Any) -> Any:
    """A message as nested dictionaries, without what names the server."""
    if hasattr(message, "ListFields"):
        shown = {field.name: plain(value) for field, value in message.ListFields() if field.name not in FREE}
        if type(message).__name__ == "LeaseTimeToLiveResponse" and shown.get("TTL", -1) > 0:
            shown["TTL"] = "left"
        if type(message).__name__ == "LeaseTimeToLiveResponse" and "keys" in shown:
            shown["keys"] = sorted(shown["keys"])
        if type(message).__name__ == "LeaseLeasesResponse":
            shown["leases"] = sorted(each.ID for each in message.leases)
        return shown
    if isinstance(message, (bytes, str, int, float, bool)):
        return message
    return [plain(each) for each in message]


class Side:
    """One server."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.told: dict[int, list[Any]] = {}
        """Watch id → what it was told."""
        self.last_heard = time.monotonic()
        self.asked: queue.Queue[Any] = queue.Queue()
        self.stream = self.channel.stream_stream(
            "/etcdserverpb.Watch/Watch", request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=pb.WatchResponse.FromString,
        )(iter(self.asked.get, None))  # fmt: skip
        threading.Thread(target=self.listen, daemon=True).start()

    def call(self, method: str, request: Any) -> Any:
        """The answer, or the code and text of the refusal."""
        service, response = METHODS[method]
        rpc = self.channel.unary_unary(
            f"/etcdserverpb.{service}/{method}", request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=response.FromString,
        )  # fmt: skip
        try:
            return plain(rpc(request, timeout=CALL_S, wait_for_ready=True))
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def listen(self) -> None:
        try:
            for answer in self.stream:
                self.last_heard = time.monotonic()
                note = self.told.setdefault(answer.watch_id, [])
                if answer.canceled and any(each[0] == "canceled" for each in note if isinstance(each, tuple)):
                    continue  # etcd also answers the cancel of a watch that a compaction has ended; we say nothing.
                for name in ("created", "canceled"):
                    if getattr(answer, name):
                        note.append((name, answer.compact_revision, answer.cancel_reason))
                note += [plain(event) for event in answer.events]
        except grpc.RpcError as error:
            self.told.setdefault(-99, []).append(("stream ended", error.code().name, error.details()))


class Program:
    """Random requests."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.revision = 1
        self.watches = 0

    def few(self, chance: float, value: Callable[[], Any]) -> Any:
        return value() if self.random.random() < chance else None

    def key(self) -> bytes:
        # The empty key is refused everywhere: rare, or little else would be seen.
        return self.random.choice(KEYS if self.random.random() < 0.05 else KEYS[1:])

    def end(self) -> bytes:
        roll = self.random.random()
        return b"" if roll < 0.4 else b"\0" if roll < 0.5 else self.random.choice(KEYS)

    def value(self) -> bytes:
        return self.random.choice([b"", b"1", b"2", b"x", b"\0\xff", b"long" * 50])

    def past(self) -> int:
        return self.random.choice(
            [0, 1, self.revision - 1, self.revision, self.revision + 1, self.random.randint(0, self.revision)]
        )

    def range(self) -> Any:
        pick = self.random
        request = pb.RangeRequest(key=self.key(), range_end=self.end())
        if pick.random() < 0.3:
            request.limit = pick.choice([-1, 0, 1, 2, 3, 100])
        if pick.random() < 0.3:
            request.revision = self.past()
        if pick.random() < 0.4:
            request.sort_order, request.sort_target = pick.randint(0, 2), pick.randint(0, 4)
        for name in ("serializable", "keys_only", "count_only"):
            setattr(request, name, pick.random() < 0.15)
        for name in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if pick.random() < 0.1:
                setattr(request, name, self.past())
        return request

    def put(self) -> Any:
        pick = self.random
        request = pb.PutRequest(key=self.key(), value=self.value(), prev_kv=pick.random() < 0.4)
        if pick.random() < 0.3:
            request.lease = pick.choice(LEASES)
        if pick.random() < 0.1:
            request.ignore_value = True
            request.value = b"" if pick.random() < 0.8 else b"x"
        if pick.random() < 0.1:
            request.ignore_lease = True
            request.lease = 0 if pick.random() < 0.8 else 1
        return request

    def delete(self) -> Any:
        return pb.DeleteRangeRequest(key=self.key(), range_end=self.end(), prev_kv=self.random.random() < 0.5)

    def delete_inside(self) -> Any:
        """Not up to the last key: etcd overlooks that such a range may hold a key that is put, and we refuse it."""
        request = self.delete()
        request.range_end = b"" if request.range_end == b"\0" else request.range_end
        return request

    def compare(self) -> Any:
        pick = self.random
        compare = pb.Compare(result=pick.randint(0, 3), target=pick.randint(0, 4), key=self.key())
        union = pick.choice(["version", "create_revision", "mod_revision", "value", "lease", ""])
        if pick.random() < 0.85:
            union = ["version", "create_revision", "mod_revision", "value", "lease"][compare.target]
        if union == "value":
            compare.value = self.value()
        elif union:
            setattr(compare, union, pick.choice([0, 1, 2, self.revision, self.past(), *LEASES]))
        if pick.random() < 0.25:
            compare.range_end = self.end()
        return compare

    def operation(self, depth: int) -> Any:
        roll = self.random.random()
        if roll < 0.35:
            return pb.RequestOp(request_put=self.put())
        if roll < 0.65:
            return pb.RequestOp(request_range=self.range())
        if roll < 0.85:
            return pb.RequestOp(request_delete_range=self.delete_inside())
        if roll < 0.97 and depth < 3:
            return pb.RequestOp(request_txn=self.txn(depth + 1))
        return pb.RequestOp() if roll > 0.995 else pb.RequestOp(request_range=self.range())

    def txn(self, depth: int = 0) -> Any:
        pick = self.random
        return pb.TxnRequest(
            compare=[self.compare() for _ in range(pick.choice([0, 1, 1, 2, 3]))],
            success=[self.operation(depth) for _ in range(pick.choice([0, 1, 2, 3]))],
            failure=[self.operation(depth) for _ in range(pick.choice([0, 0, 1, 2]))],
        )

    def watch(self) -> Any:
        pick = self.random
        self.watches += 1
        create = pb.WatchCreateRequest(key=self.key(), range_end=self.end(), prev_kv=pick.random() < 0.5)
        if pick.random() < 0.5:
            create.start_revision = self.past()
        if pick.random() < 0.3:
            create.filters.append(pick.randint(0, 1))
        create.fragment = pick.random() < 0.2
        return pb.WatchRequest(create_request=create)

    def step(self) -> tuple[str, Any]:
        roll = self.random.random()
        for share, method, make in (
            (0.30, "Put", self.put),
            (0.50, "Range", self.range),
            (0.60, "DeleteRange", self.delete),
            (0.85, "Txn", self.txn),
            (0.89, "LeaseGrant", lambda: pb.LeaseGrantRequest(TTL=self.random.choice([1000, 2000, 9_000_000_001]), ID=self.random.choice(LEASES[1:]))),
            (0.92, "LeaseRevoke", lambda: pb.LeaseRevokeRequest(ID=self.random.choice(LEASES))),
            (0.94, "LeaseTimeToLive", lambda: pb.LeaseTimeToLiveRequest(ID=self.random.choice(LEASES), keys=True)),
            (0.95, "LeaseLeases", pb.LeaseLeasesRequest),
            (0.985, "watch", self.watch),
            (0.99, "cancel", lambda: pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=self.random.randint(0, max(1, self.watches))))),
        ):  # fmt: skip
            if roll < share:
                return method, make()
        return "Compact", pb.CompactionRequest(
            revision=self.random.choice([self.past(), self.revision - 5]), physical=True
        )


def quiet(sides: tuple[Side, Side]) -> None:
    """Until neither has said anything on its watches for a while."""
    since = time.monotonic()
    while time.monotonic() < max(since, *(side.last_heard for side in sides)) + QUIET_S:
        time.sleep(0.02)


def differences(sides: tuple[Side, Side], what: str) -> Iterator[str]:
    """What the watches of the two were told differently."""
    theirs, ours = sides
    for watch in sorted({*theirs.told, *ours.told}):
        left, right = theirs.told.get(watch, []), ours.told.get(watch, [])
        if left != right:
            at = next(
                (n for n, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]),
                min(len(left), len(right)),
            )
            yield f"{what}: watch {watch} at {at} of {len(left)} and {len(right)}\n  theirs {left[at : at + 2]}\n  ours   {right[at : at + 2]}"


def main() -> int:
    theirs, ours = sides = Side(sys.argv[1]), Side(sys.argv[2])
    seed, steps = int(sys.argv[3]), int(sys.argv[4])
    program = Program(seed)
    for number in range(steps):
        method, request = program.step()
        where = f"seed {seed}, step {number}, {method}"
        if method in ("watch", "cancel", "Compact"):
            quiet(sides)
            found = [*differences(sides, where)]
            if found:
                print("\n".join(found))
                return 1
        if method in ("watch", "cancel"):
            for side in sides:
                side.asked.put(request)
            quiet(sides)
            continue
        left, right = theirs.call(method, request), ours.call(method, request)
        if left != right:
            print(f"{where}\n{request}\n  theirs {left}\n  ours   {right}")
            return 1
        if isinstance(left, dict):
            program.revision = max(program.revision, left.get("header", {}).get("revision", 0))
    quiet(sides)
    found = [*differences(sides, f"seed {seed}, at the end")]
    print(
        "\n".join(found)
        or f"{steps} steps alike, {sum(map(len, theirs.told.values()))} events and answers of {len(theirs.told)} watches"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
