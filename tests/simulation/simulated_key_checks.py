"""The checkers of keys that are instances, and of users' rights. As in ``simulated_checks``, the journal explains all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from simulated_checks import replay
from simulated_guard import Attempt, Guest
from simulated_keys import KEYED, SHOWN, SPACE, KeyProvider, KeyWatcher
from simulated_world import World

from townhall.core import Commit
from townhall.core.evolve import evolve
from townhall.core.facts import GuardChanged
from townhall.core.facts_guard import GuardSwitched, KeyRoleDeleted, KeyRolePut, UserDeleted, UserPut
from townhall.core.state import State
from townhall.model.guard import ROOT, Grants, Permission


def spaces_and_guards_are_what_the_journal_says(world: World, commits: Sequence[Commit]) -> None:
    state = State()
    for commit in commits:
        evolve(state, commit)
    assert world.hub is not None
    live = world.hub.state
    assert set(live.spaces) == set(state.spaces)
    for name, space in state.spaces.items():
        assert (live.spaces[name].revision, live.spaces[name].compacted) == (space.revision, space.compacted)
        assert live.spaces[name].range(b"\0", b"\0") == space.range(b"\0", b"\0"), f"{name} differs from a replay"
    ties = [() if each.ties is None else each.ties.all for each in (live, state)]
    assert ties[0] == ties[1]
    assert set(live.guards) == set(state.guards)
    for name, guard in state.guards.items():
        found = live.guards[name]
        assert (found.enabled, found.since, found.revision) == (guard.enabled, guard.since, guard.revision)
        assert (found.users, found.roles) == (guard.users, guard.roles)


def keys_are_instances(world: World, providers: Sequence[KeyProvider]) -> None:
    """Who lives has a key and is found by it; who is dead has neither, for its lease has ended."""
    assert world.hub is not None
    state = world.hub.state
    service = state.services.get(KEYED)
    for provider in providers:
        kv = state.spaces[SPACE].get(provider.key) if SPACE in state.spaces else None
        instance = service.instances.get(provider.id) if service is not None else None
        if not provider.wanted:
            assert kv is None, f"{provider.process} is dead and its key stands"
            assert instance is None, f"{provider.process} is dead and found"
            continue
        assert kv is not None, f"{provider.process} lives and has no key"
        assert instance is not None, f"{provider.process} lives and is not found"
        assert kv.value == provider.value
        assert (instance.port, instance.callable) == (1_000 + provider.life, True)


def watchers_of_keys_saw_what_was(world: World, commits: Sequence[Commit], watchers: Sequence[KeyWatcher]) -> None:
    """Each state that a watcher went through is one that the space was in at that revision."""
    wanted: dict[int, list[tuple[KeyWatcher, dict[bytes, bytes]]]] = {}
    for watcher in watchers:
        for revision, keys in watcher.history:
            wanted.setdefault(revision, []).append((watcher, keys))
    last = 0
    for state, _commit, go in replay(commits):
        go()
        space = state.spaces.get(SPACE)
        for revision in range(last + 1, space.revision + 1 if space is not None else 0):
            assert space is not None
            there = {kv.key: kv.value for kv in space.range_at(*SHOWN, revision)[0]}
            for watcher, keys in wanted.pop(revision, ()):
                assert keys == there, f"watcher {watcher.name} of keys was wrong at revision {revision}"
        last = space.revision if space is not None else last
    wanted.pop(0, None)
    wanted.pop(1, None)  # A space that nobody has written has revision 1 without a commit.
    assert not wanted, f"watchers were told of revisions that never were: {sorted(wanted)[:3]}"
    assert world.hub is not None
    standing = {kv.key: kv.value for kv in world.hub.state.spaces[SPACE].range(*SHOWN)[0]}
    for watcher in watchers:
        assert watcher.keys == standing, f"watcher {watcher.name} of keys did not converge"


# --- rights


@dataclass
class Rights:
    """Users, roles and permissions as plainly as can be."""

    enabled: bool = False
    users: dict[str, frozenset[str]] = field(default_factory=dict)
    roles: dict[str, tuple[Permission, ...]] = field(default_factory=dict)

    def after(self, change: object) -> Rights:
        users, roles, enabled = dict(self.users), dict(self.roles), self.enabled
        match change:
            case UserPut(user=user):
                users[user.name] = frozenset(user.roles)
            case UserDeleted(name=name):
                users.pop(name, None)
            case KeyRolePut(role=role):
                roles[role.name] = role.permissions
            case KeyRoleDeleted(name=name):
                roles.pop(name, None)
                users = {user: owned - {name} for user, owned in users.items()}
            case GuardSwitched(enabled=now):
                enabled = now
        return Rights(enabled, users, roles)

    def allow(self, attempt: Attempt) -> bool:
        if not self.enabled:
            return True  # Then nobody's rights are looked at.
        needed = (Grants.WRITE, Grants.BOTH) if attempt.write else (Grants.READ, Grants.BOTH)
        owned = self.users.get(attempt.user, frozenset())
        return ROOT in owned or any(
            permission.grants in needed and _covers(permission, attempt.key)
            for role in owned
            for permission in self.roles.get(role, ())
        )


def _covers(permission: Permission, key: bytes) -> bool:
    if not permission.end:
        return key == permission.key
    return permission.key <= key and (permission.end == b"\0" or key < permission.end)


def rights_hold(commits: Sequence[Commit], guests: Sequence[Guest]) -> None:
    """What a user was allowed was allowed, and what they were refused was not, at some moment of the attempt."""
    standing, now = [Rights()], Rights()
    for commit in commits:
        for fact in commit.facts:
            if isinstance(fact, GuardChanged) and fact.space == SPACE:
                now = now.after(fact.change)
        standing.append(now)
    for guest in guests:
        for attempt in guest.attempts:
            during = {standing[at].allow(attempt) for at in range(attempt.heard_at, attempt.told_at + 1)}
            assert attempt.allowed in during, f"{attempt} was judged wrongly"
