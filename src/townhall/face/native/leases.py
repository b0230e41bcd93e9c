"""Leases: grant, look, renew one or many, end."""

from __future__ import annotations

from townhall.core import Outcome
from townhall.core.commands import EndLease, GrantLease, LeaseGrant
from townhall.core.live import Live
from townhall.core.queries import Reader
from townhall.core.state import Lease
from townhall.face import Reply, Request, Verb
from townhall.face.native import outcomes
from townhall.face.native.lease_shapes import LeaseBody, LeaseGrantView, LeasesView, LeaseView, RenewalView, RenewBody
from townhall.face.native.operations import Operation
from townhall.face.native.rendering import position_header, reply
from townhall.face.native.requests import lease_id
from townhall.model import limits
from townhall.model.errors import LeaseNotFound, TooLarge
from townhall.wire.strict_json import Strict

__all__ = ["lease_view", "operations", "renewal"]

_GRANT: Strict[LeaseBody] = Strict(LeaseBody)
# Lax: 500 ids written as strings become numbers at C speed.
_RENEW: Strict[RenewBody] = Strict(RenewBody, lax=True)


def operations() -> list[Operation]:
    """The rows of the table."""
    tag = "leases"
    one = "/leases/{id}"
    return [
        Operation(
            method="POST", path="/leases", handler=grant, summary="Grant a lease", tag=tag, body=LeaseBody,
            answers={201: LeaseGrantView}, refusals=(409, 429),
            description="Register with `lease` to hang several instances on one. For locks ask for `kind` keys: such a "
            "lease ends exactly when its time has passed.",
        ),
        Operation(method="GET", path="/leases", handler=listed, summary="All leases", tag=tag, answers={200: LeasesView}),
        Operation(
            method="GET", path=one, handler=get, summary="One lease and what hangs on it", tag=tag,
            answers={200: LeaseView}, refusals=(404,),
        ),
        Operation(
            method="PUT", path=one, handler=renew, summary="Renew a lease", tag=tag, answers={200: LeaseGrantView},
            refusals=(404,), description="404 means that it has ended: register again.",
        ),
        Operation(
            method="DELETE", path=one, handler=end, summary="End a lease and all that hangs on it", tag=tag,
            answers={204: None}, refusals=(404,),
        ),
        Operation(
            method="POST", path="/renew", handler=renew_many, summary="Renew many leases with one request", tag=tag,
            body=RenewBody, answers={200: RenewalView}, refusals=(413,),
        ),
    ]  # fmt: skip


def grant(request: Request, reader: Reader) -> Verb:
    """Grant one."""
    body = _GRANT.decode(request.body or b"{}")
    wanted = 0 if body.id is None else lease_id(body.id, "id")
    return outcomes.submit(GrantLease(ttl_ms=body.ttl_ms, id=wanted, kind=body.kind), _granted)


def _granted(reader: Reader, outcome: Outcome) -> Reply:
    result = outcome.result
    assert isinstance(result, LeaseGrant)
    return reply(reader, LeaseGrantView(lease=str(result.id), ttl_ms=result.ttl_ms), 201)


def listed(request: Request, reader: Reader) -> Verb:
    """All that there are."""
    return reply(reader, LeasesView(leases=[lease_view(lease, request.live) for lease in reader.leases()]))


def get(request: Request, reader: Reader) -> Verb:
    """One, with the time it has left."""
    return reply(reader, lease_view(reader.lease(_target(request)), request.live))


def lease_view(lease: Lease, live: Live) -> LeaseView:
    """A lease as it is shown."""
    deadline = live.deadline(lease.id)
    return LeaseView(
        lease=str(lease.id),
        ttl_ms=lease.ttl_ms,
        remaining_ms=0 if deadline is None else max(0, deadline - live.now_ms()),
        owner=lease.owner,
        epoch=lease.epoch,
        kind=lease.kind,
        lapsed=lease.lapsed_at != 0,
        connected=lease.connected,
        instances=[(*key, name) for key, name in lease.attached()],
        keys=len(lease.keys) if lease.keys else 0,
    )


def renew(request: Request, reader: Reader) -> Verb:
    """Extend one deadline, without a commit."""
    wanted = _target(request)
    reader.require_renewal((wanted,))
    if request.live.renew((wanted,)):
        raise LeaseNotFound(f"lease {wanted} has ended or never was", advice="register again", lease=str(wanted))
    ttl_ms = reader.lease(wanted).ttl_ms
    body = b'{"lease":"%d","ttl_ms":%d}' % (wanted, ttl_ms)
    return Reply(200, body, (position_header(reader.position),))


def renew_many(request: Request, reader: Reader) -> Verb:
    """Extend many deadlines, without a commit."""
    leases = _RENEW.decode(request.body).leases
    if len(leases) > limits.BATCH_COUNT_MAX:
        raise TooLarge(f"{len(leases)} leases, at most {limits.BATCH_COUNT_MAX}", limit=limits.BATCH_COUNT_MAX)
    reader.require_renewal(leases)
    unknown = request.live.renew(leases)
    return Reply(200, renewal(len(leases), unknown), (position_header(reader.position),))


def renewal(count: int, unknown: list[int]) -> bytes:
    """The object that answers a renewal of ``count`` leases."""
    return b'{"renewed":%d,"unknown":[%b]}' % (count - len(unknown), b",".join([b'"%d"' % id_ for id_ in unknown]))


def end(request: Request, reader: Reader) -> Verb:
    """End one deliberately."""
    return outcomes.submit(EndLease(id=_target(request)), outcomes.done)


def _target(request: Request) -> int:
    return lease_id(request.segments["id"], "id")
