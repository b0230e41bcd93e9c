"""Reads of what a token may not see: Consul answers them as if nothing were there, and says that it left something out.

So a client that waits for a service is not told at once, again and again, that there is none: it waits, too.
"""

from __future__ import annotations

from townhall.core.queries import Reader
from townhall.face import Handler, Park, Reply, Request, Verb
from townhall.face.consul.blocking import headers_of, wait_with_jitter
from townhall.face.consul.requests import read_options
from townhall.face.consul.site import Site
from townhall.model.errors import Denied, Unauthenticated

__all__ = ["empty_when_unseen"]


def empty_when_unseen(site: Site, handler: Handler) -> Handler:
    """The handler of a list, with an empty one in the place of a refusal for want of a right to read."""

    def handle(request: Request, reader: Reader) -> Verb:
        try:
            verb = handler(request, reader)
        except (Denied, Unauthenticated) as error:
            if "right" not in error.fields:
                raise  # The token itself is unknown.
            return _empty(site, request, reader)
        if not isinstance(verb, Park):
            return verb
        inner = verb.attempt

        def attempt(reader: Reader, expired: bool) -> Reply | None:
            try:
                found = inner(reader, expired)
            except (Denied, Unauthenticated) as error:
                if "right" not in error.fields:
                    raise
                return _nothing(site, request, reader) if expired else None
            assert found is None or isinstance(found, Reply)
            return found

        return Park(verb.interests, attempt, verb.wait_ms, alike=verb.alike)

    return handle


def _empty(site: Site, request: Request, reader: Reader) -> Verb:
    options = read_options(request, site)
    if not options.index:
        return _nothing(site, request, reader)
    wait_ms = wait_with_jitter(request, options.wait_ms)
    return Park((), lambda reader, expired: _nothing(site, request, reader) if expired else None, wait_ms)


def _nothing(site: Site, request: Request, reader: Reader) -> Reply:
    reader.filtered = True
    options = read_options(request, site)
    return Reply(200, b"[]", headers_of(reader, options, max(options.index, 1)))
