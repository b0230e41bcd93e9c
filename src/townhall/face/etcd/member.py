"""Who this server is to etcd's clients: the one member of a cluster of one.

Ids are made of names, so that they stay the same over restarts: clients compare them.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from townhall.wire.etcd import cluster
from townhall.wire.etcd.fragments import Header

__all__ = ["CLUSTER_VERSION", "RAFT_TERM", "SERVER_VERSION", "SPACE", "Identity", "identity"]

SPACE: Final = "etcd"
"""The key space that etcd's clients see."""
SERVER_VERSION: Final = "3.6.14"
"""What we say we are: the version whose answers are matched."""
CLUSTER_VERSION: Final = "3.6.0"
RAFT_TERM: Final = 2
"""There are no elections: it is what a fresh etcd of one member has."""


class Identity(msgspec.Struct, frozen=True):
    """This member, and the headers of its answers."""

    name: str
    client_urls: list[str]
    peer_urls: tuple[str, ...]
    cluster_id: int
    member_id: int
    header: Header

    def listens(self, client_url: str) -> None:
        """Where clients reach it, once the port is known."""
        self.client_urls[:] = [client_url]

    def member(self) -> cluster.Member:
        """As MemberList shows it."""
        return cluster.Member(id=self.member_id, name=self.name, peer_urls=self.peer_urls, client_urls=self.client_urls)


def identity(*, name: str, datacenter: str, client_url: str) -> Identity:
    """The identity of a node. Nobody can dial its peer URL: there are no peers."""
    cluster_id, member_id = _id(f"cluster {datacenter}"), _id(f"member {datacenter}/{name}")
    header = Header(cluster_id, member_id, RAFT_TERM)
    return Identity(name, [client_url], ("http://127.0.0.1:2380",), cluster_id, member_id, header)


def _id(text: str) -> int:
    """A positive number of 63 bits: some clients read these as signed."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1 or 1
