"""Townhall's own protocol: HTTP and JSON under ``/api/v1``; see docs/protocols/native.md.

``routes`` holds the face and its table of operations; each noun has its own file with its handlers; ``shapes`` and
``key_shapes`` are the JSON objects, ``requests`` the query parameters, ``rendering`` the answers as shared bytes,
``problems`` the errors, and ``openapi`` and ``page`` describe it all from the same tables.
"""

from __future__ import annotations

from townhall.face.native.routes import NativeFace

__all__ = ["NativeFace"]
