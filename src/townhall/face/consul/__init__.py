"""Consul's HTTP API: every client of Consul's may talk to this registry; see docs/protocols/consul.md.

``routes`` holds the face and puts the tables of all nouns together. ``site`` is what this registry is to Consul's
clients, ``picture`` the catalogue as they see it (which node, which checks), ``shapes`` its JSON objects and
``rendering`` the shared bytes of answers. ``requests`` and ``bodies`` read what clients send, ``blocking`` answers
reads now or when their index moves, ``selection`` says which instances they show, ``filter`` is the language of
``?filter=`` and ``errors`` what goes wrong. Each noun of the API has its own file with its handlers.
"""

from __future__ import annotations

from townhall.face.consul.routes import ConsulFace
from townhall.face.consul.site import Site

__all__ = ["ConsulFace", "Site"]
