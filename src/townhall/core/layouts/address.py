"""A bare address as the value: ``host:port``, or a URL.

``plain`` is what people write by hand, ``url`` the same written back as a URL, ``go-zero`` what its ``discov``
publishes under ``<service>/<lease id>``, ``go-kit`` the instance string of ``sd/etcdv3``, whose prefix and key the
program chooses. All of them read either form. A URL's scheme is kept as metadata, its path is not. A client of go-zero
dials the value as it is, so there it is never written as a URL, whatever the metadata says.
"""

from __future__ import annotations

from townhall.core.layouts import Entry
from townhall.core.layouts.values import endpoint, text_of

__all__ = ["Address"]

_SCHEME = "scheme"


class Address:
    """See the head of this file."""

    def __init__(self, name: str, *, scheme: str = "", bare: bool = False) -> None:
        """``scheme``: of an instance that has none in its metadata; "" writes ``host:port``, as ``bare`` always does."""
        self.name = name
        self._scheme = scheme
        self._bare = bare

    def read(self, value: bytes, *, service: str, id: str) -> Entry | None:  # noqa: A002
        """See ``Layout``."""
        try:
            where = endpoint(value.decode())
        except UnicodeDecodeError:
            return None
        if where is None:
            return None
        scheme, address, port = where
        usual = not scheme or scheme == self._scheme
        return Entry(address=address, port=port, metadata={} if usual else {_SCHEME: scheme})

    def write(self, entry: Entry, *, service: str, id: str) -> bytes | None:  # noqa: A002
        """See ``Layout``."""
        if not entry.port:
            return None
        scheme = "" if self._bare else entry.metadata.get(_SCHEME, self._scheme)
        found = text_of(entry.address, entry.port, scheme).encode()
        # What somebody else's metadata calls a scheme may be none.
        return found if self.read(found, service=service, id=id) else text_of(entry.address, entry.port).encode()
