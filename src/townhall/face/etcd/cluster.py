"""The Cluster service: one member, and changes answered as one member would.

Townhall is no Raft cluster and no member can join it. Whatever would change the members is refused with the text that
etcd has for a cluster too small to be changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from townhall.core.queries import Reader
from townhall.face import Reply, Verb
from townhall.face.etcd.answers import answer, refusal
from townhall.face.etcd.member import SPACE, Identity
from townhall.face.grpc import Call, Code, Method
from townhall.model.access import Level
from townhall.wire.etcd import cluster
from townhall.wire.protobuf_decode import decode

__all__ = ["ClusterService"]

_UNKNOWN: Final = refusal(Code.NOT_FOUND, "etcdserver: member not found")
_NO_LEARNER: Final = refusal(Code.FAILED_PRECONDITION, "etcdserver: can only promote a learner member")
_BAD_URLS: Final = refusal(Code.INVALID_ARGUMENT, "etcdserver: given member URLs are invalid")
_TAKEN: Final = refusal(Code.FAILED_PRECONDITION, "etcdserver: Peer URLs already exists")
_FIXED: Final = refusal(
    Code.FAILED_PRECONDITION, "etcdserver: re-configuration failed due to not enough started members"
)


class ClusterService:
    """``etcdserverpb.Cluster``."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def methods(self) -> Sequence[Method]:
        """The rows of the face's table."""
        handlers = {
            "MemberList": self.member_list,
            "MemberAdd": self.member_add,
            "MemberRemove": self.member_remove,
            "MemberUpdate": self.member_update,
            "MemberPromote": self.member_promote,
        }
        return [Method(f"/etcdserverpb.Cluster/{name}", handler) for name, handler in handlers.items()]

    def member_list(self, call: Call, reader: Reader) -> Verb:
        """This server. Its header has no revision, as etcd's has none."""
        members = (self._identity.member(),)
        return answer(self._identity, reader, cluster.MemberListResponse(members=members), revision=0)

    def member_add(self, call: Call, reader: Reader) -> Verb:
        """Nobody can join."""
        reader.guard(SPACE).require(Level.WRITE)
        urls = decode(cluster.MemberAddRequest, call.message).peer_urls
        if not _valid(urls):
            return _BAD_URLS
        return _TAKEN if set(urls) & set(self._identity.peer_urls) else _FIXED

    def member_remove(self, call: Call, reader: Reader) -> Verb:
        """The only one cannot go."""
        return self._known(reader, decode(cluster.MemberRemoveRequest, call.message).id) or _FIXED

    def member_update(self, call: Call, reader: Reader) -> Verb:
        """It stays where it is."""
        request = decode(cluster.MemberUpdateRequest, call.message)
        if not _valid(request.peer_urls):
            return _BAD_URLS
        refused = self._known(reader, request.id)
        if refused is not None or sorted(request.peer_urls) != sorted(self._identity.peer_urls):
            return refused or _FIXED
        return answer(self._identity, reader, cluster.MemberUpdateResponse(members=(self._identity.member(),)))

    def member_promote(self, call: Call, reader: Reader) -> Verb:
        """There are no learners."""
        return self._known(reader, decode(cluster.MemberPromoteRequest, call.message).id) or _NO_LEARNER

    def _known(self, reader: Reader, member_id: int) -> Reply | None:
        reader.guard(SPACE).require(Level.WRITE)
        return None if member_id == self._identity.member_id else _UNKNOWN


def _valid(urls: Sequence[str]) -> bool:
    """Etcd's ``types.NewURLs``: at least one, with a scheme it knows, a host and a port, and no path."""
    return bool(urls) and all(map(_valid_url, urls))


def _valid_url(url: str) -> bool:
    try:
        parts = urlsplit(url.strip())
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and bool(parts.port) and not parts.path
    except ValueError:
        return False
