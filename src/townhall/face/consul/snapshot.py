"""``/v1/snapshot``: restoring an archive. Saving one is an operation that the face is given, as it takes a while."""

from __future__ import annotations

from collections.abc import Sequence

from townhall.core import Outcome
from townhall.core.commands import Restore
from townhall.core.queries import Reader
from townhall.face import Reply, Request, Route, Submit, Verb
from townhall.face.consul.blocking import policy
from townhall.face.consul.errors import bad
from townhall.face.consul.requests import check_datacenter
from townhall.face.consul.site import Site, Sited
from townhall.model import limits
from townhall.model.access import Level, Resource
from townhall.model.errors import Denied, InvalidField, TownhallError
from townhall.wire.consul_snapshot import BadSnapshot, unpack

__all__ = ["Snapshots", "routes"]


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    snapshots = Snapshots(face.site)
    return (
        Route("GET", "/v1/snapshot", snapshots.save),
        Route("PUT", "/v1/snapshot", snapshots.restore, body_size_max=limits.COMMIT_SIZE_MAX),
    )


def guard(reader: Reader) -> None:
    """Raise unless the actor may have everything: an archive holds hashes of all secrets."""
    reader.require(Resource.OPERATOR, Level.WRITE, "")
    if (reader.state.access_enabled or reader.actor.restricted) and not (
        reader.actor.management or reader.actor.internal
    ):
        raise Denied("only a management token may save or restore", right="write", resource="operator:")


class Snapshots:
    """The handlers."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def save(self, request: Request, reader: Reader) -> Verb:
        """Where nobody gave the face the operation, it says so."""
        guard(reader)
        raise bad("snapshots are not made here: use 'townhall backup'", 501)

    def restore(self, request: Request, reader: Reader) -> Verb:
        """Let what stood in an archive of this registry's stand again, in one commit."""
        check_datacenter(request, self._site)
        guard(reader)
        try:
            found = unpack(request.body, size_max=limits.SNAPSHOT_STATE_SIZE_MAX)
        except BadSnapshot as error:
            raise bad(str(error)) from None

        def render(reader: Reader, outcomes: Sequence[Outcome | TownhallError]) -> Reply:
            outcome = outcomes[0]
            if isinstance(outcome, InvalidField):
                raise bad(f"failed reading snapshot: {outcome.message}")
            if isinstance(outcome, TownhallError):
                raise outcome
            return Reply(200, b"", (policy(reader),))

        return Submit((Restore(chunks=found.chunks),), render)
