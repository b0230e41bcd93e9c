"""Whatever a registry sends in whatever order of snapshot, delta, repetition and compaction: the picture is the truth."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from townhall.client.picture import Picture, folded, picture_of, retained, without
from townhall.client.records import Instance
from townhall.client.streams import WatchEvent
from townhall.model.instance import ServiceKey

KEY = ServiceKey("default", "default", "s")


def instance(name: str, revision: int) -> Instance:
    return Instance(id=name, service="s", address="127.0.0.1", revision=revision)


@dataclass
class Truth:
    """The registry's side: a service with its history."""

    revision: int = 0
    members: dict[str, Instance] = field(default_factory=dict)
    log: list[tuple[int, str]] = field(default_factory=list)

    def put(self, name: str) -> None:
        self.revision += 1
        self.members[name] = instance(name, self.revision)
        self.log.append((self.revision, name))

    def remove(self, name: str) -> None:
        if self.members.pop(name, None) is not None:
            self.revision += 1
            self.log.append((self.revision, name))

    def snapshot(self) -> WatchEvent:
        return WatchEvent(kind="snapshot", service="s", revision=self.revision, instances=tuple(self.members.values()))

    def delta(self, after: int) -> WatchEvent:
        names = {name for revision, name in self.log if revision > after}
        changed = tuple(one for name, one in self.members.items() if name in names)
        removed = tuple(sorted(names - set(self.members)))
        return WatchEvent(kind="delta", service="s", revision=self.revision, changed=changed, removed=removed)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abcd")),
        st.tuples(st.just("remove"), st.sampled_from("abcd")),
        st.tuples(st.sampled_from(["delta", "snapshot", "compacted", "reconnect", "forget"]), st.integers(0, 6)),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_any_sequence_ends_in_the_truth(steps: list[tuple[str, object]]) -> None:
    truth = Truth()
    known: Picture | None = None
    sent = 0

    def receive(*events: WatchEvent) -> None:
        nonlocal known, sent
        for event in events:
            before = known
            change = folded(known, event)
            if change is not None:
                known = change.picture
                _check_change(before, change.picture, change.changed, change.removed)
        sent = truth.revision

    receive(truth.snapshot())
    for kind, value in steps:
        match kind, value:
            case "put", str(name):
                truth.put(name)
            case "remove", str(name):
                truth.remove(name)
            case "delta", _:
                receive(truth.delta(sent))
            case "snapshot", _:
                receive(truth.snapshot())
            case "compacted", _:
                receive(WatchEvent(kind="compacted", service="s"), truth.snapshot())
            case "reconnect", int(back):
                # A stream that resumes earlier than need be repeats what is known.
                receive(truth.delta(max(0, sent - back)))
            case "forget", _:
                # The registry lost everything: its revisions begin anew.
                truth = Truth()
                receive(truth.snapshot())
    receive(truth.delta(sent))
    assert known is not None
    assert dict(known.by_id) == truth.members
    assert set(known.instances) == set(truth.members.values())
    assert known.revision == truth.revision


def _check_change(
    before: Picture | None, after: Picture, changed: tuple[Instance, ...], removed: tuple[str, ...]
) -> None:
    """The change alone, applied to what was, gives what is."""
    members = dict(before.by_id) if before is not None else {}
    for name in removed:
        del members[name]
    members.update({one.id: one for one in changed})
    assert members == dict(after.by_id)


def test_nothing_new_is_no_change() -> None:
    known = picture_of(KEY, 5, [instance("a", 5)])
    assert folded(known, WatchEvent(kind="snapshot", service="s", revision=5, instances=(instance("a", 5),))) is None
    assert folded(known, WatchEvent(kind="delta", service="s", revision=5, removed=("a",))) is None
    assert folded(known, WatchEvent(kind="compacted", service="s")) is None
    assert folded(None, WatchEvent(kind="delta", service="s", revision=5)) is None


def test_an_empty_snapshot_is_believed() -> None:
    known = picture_of(KEY, 5, [instance("a", 5)])
    change = folded(known, WatchEvent(kind="snapshot", service="s", revision=1))
    assert change is not None
    assert change.removed == ("a",)
    assert change.picture.instances == ()


def test_a_picture_is_never_changed() -> None:
    known = picture_of(KEY, 5, [instance("a", 5)])
    change = folded(
        known, WatchEvent(kind="delta", service="s", revision=6, changed=(instance("b", 6),), removed=("a",))
    )
    assert change is not None
    assert set(known.by_id) == {"a"}
    assert set(change.picture.by_id) == {"b"}


def test_what_a_forgetful_registry_does_not_tell_of_is_retained() -> None:
    earlier = {
        name: Instance(id=name, service="s", address="127.0.0.1", port=port) for port, name in enumerate("abc", 1)
    }
    again = Instance(id="new-name", service="s", address="127.0.0.1", port=2)
    snapshot = WatchEvent(kind="snapshot", service="s", revision=1, instances=(earlier["a"], again))
    left, event = retained(earlier, snapshot)
    assert set(left) == {"c"}
    assert [one.id for one in event.instances] == ["a", "new-name", "c"]
    # Another id at the same place is the same process: both would be called twice as often.
    moved = Instance(id="other", service="s", address="127.0.0.1", port=3)
    left, event = retained(left, WatchEvent(kind="delta", service="s", revision=2, changed=(moved,)))
    assert not left
    assert event.removed == ("c",)


def test_without_takes_out_what_is_there() -> None:
    picture = picture_of(KEY, 7, [instance("a", 1), instance("b", 2)])
    change = without(picture, ["b", "gone already"])
    assert (change.removed, set(change.picture.by_id), change.picture.revision) == (("b",), {"a"}, 7)
