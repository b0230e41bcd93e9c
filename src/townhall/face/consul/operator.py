"""``/v1/operator``: what clients and dashboards read of a cluster, told of one server that is its own leader."""

from __future__ import annotations

from collections.abc import Sequence

from townhall.core.queries import Reader
from townhall.face import Reply, Request, Route, Verb
from townhall.face.consul.autopilot import Autopilot
from townhall.face.consul.blocking import Read, answer, encode, json_reply
from townhall.face.consul.errors import PLAIN_TEXT, bad
from townhall.face.consul.picture import Picture
from townhall.face.consul.requests import first, read_options
from townhall.face.consul.site import CONSUL_VERSION, Site, Sited
from townhall.face.consul.status import server_address
from townhall.model.access import Level, Resource
from townhall.model.instance import DEFAULT_NAMESPACE

__all__ = ["Operator", "routes"]

_RAFT_PROTOCOL = "3"
_STABLE_SINCE = "1970-01-01T00:00:00Z"
_CONNECT_KINDS = (
    "api-gateway", "connect-native", "connect-proxy", "ingress-gateway", "mesh-gateway", "terminating-gateway",
)  # fmt: skip


def routes(face: Sited) -> Sequence[Route]:
    """The rows of the table."""
    operator, autopilot = Operator(face.site), Autopilot(face.site)
    base = "/v1/operator"
    return (
        Route("GET", f"{base}/raft/configuration", operator.raft),
        Route("DELETE", f"{base}/raft/peer", operator.remove_peer),
        Route("POST", f"{base}/raft/transfer-leader", operator.transfer_leader),
        Route("GET", f"{base}/autopilot/configuration", autopilot.get),
        Route("PUT", f"{base}/autopilot/configuration", autopilot.put),
        Route("GET", f"{base}/autopilot/health", operator.health),
        Route("GET", f"{base}/autopilot/state", operator.state),
        Route("GET", f"{base}/keyring", operator.keyring),
        Route("GET", f"{base}/usage", operator.usage),
    )


class Operator:
    """Handlers for operators' tools. All need the right to read what is the operator's."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._picture = Picture(site)

    def raft(self, request: Request, reader: Reader) -> Verb:
        """The servers: one."""
        _guard(reader)
        server = {
            "ID": self._site.node_id, "Node": self._site.node, "Address": server_address(self._site), "Leader": True,
            "ProtocolVersion": _RAFT_PROTOCOL, "Voter": True, "LastIndex": reader.position,
        }  # fmt: skip
        return json_reply(reader, read_options(request, self._site), {"Servers": [server], "Index": 0})

    def remove_peer(self, request: Request, reader: Reader) -> Verb:
        """There is no other server that could be removed."""
        reader.require(Resource.OPERATOR, Level.WRITE, "")
        given = [first(request, name) for name in ("id", "address") if first(request, name)]
        if not given:
            raise bad("Must specify either ?id with the server's ID or ?address with IP:port of peer to remove")
        if len(given) > 1:
            raise bad("Must specify only one of ?id or ?address")
        raise bad(f'address "{given[0][:128]}" was not found in the Raft configuration')

    def transfer_leader(self, request: Request, reader: Reader) -> Verb:
        """There is nobody to hand over to."""
        reader.require(Resource.OPERATOR, Level.WRITE, "")
        raise bad("cannot find peer", 500)

    def health(self, request: Request, reader: Reader) -> Verb:
        """Healthy: who can answer is."""
        _guard(reader)
        server = {
            "ID": self._site.node_id, "Name": self._site.node, "Address": server_address(self._site),
            "SerfStatus": "alive", "Version": CONSUL_VERSION, "Leader": True, "LastContact": "0s", "LastTerm": 2,
            "LastIndex": reader.position, "Healthy": True, "Voter": True, "StableSince": _STABLE_SINCE,
        }  # fmt: skip
        shown = {"Healthy": True, "FailureTolerance": 0, "Servers": [server]}
        return json_reply(reader, read_options(request, self._site), shown)

    def state(self, request: Request, reader: Reader) -> Verb:
        """The same in the words of a later version."""
        _guard(reader)
        site = self._site
        server = {
            "ID": site.node_id, "Name": site.node, "Address": server_address(site), "NodeStatus": "alive",
            "Version": CONSUL_VERSION, "LastContact": "0s", "LastTerm": 2, "LastIndex": reader.position,
            "Healthy": True, "StableSince": _STABLE_SINCE, "ReadReplica": False, "Status": "leader", "Meta": site.meta,
            "NodeType": "voter",
        }  # fmt: skip
        shown = {
            "Healthy": True, "FailureTolerance": 0, "OptimisticFailureTolerance": 0, "Leader": site.node_id,
            "Voters": [site.node_id], "Servers": {site.node_id: server},
        }  # fmt: skip
        return json_reply(reader, read_options(request, site), shown)

    def keyring(self, request: Request, reader: Reader) -> Verb:
        """There is no gossip, so there is no key for it; Consul says this where its gossip is not encrypted."""
        _guard(reader)
        return Reply(500, b"Keyring is empty (encryption not enabled)\n", (), PLAIN_TEXT)

    def usage(self, request: Request, reader: Reader) -> Verb:
        """Counts of what is registered."""
        _guard(reader)

        def render(reader: Reader) -> bytes:
            names = self._picture.names(reader)
            instances = sum(len(self._picture.instances(reader, name)) for name in names)
            # The server's own service is one that everybody sees.
            services = len(set(names) | {"consul"})
            counts = {
                "Nodes": len(self._picture.nodes(reader)), "Services": services,
                "ServiceInstances": instances + int("consul" not in names),
                "ConnectServiceInstances": dict.fromkeys(_CONNECT_KINDS, 0), "BillableServiceInstances": instances,
            }  # fmt: skip
            shown = {
                "Usage": {self._site.datacenter: counts}, "Index": index(reader), "LastContact": 0, "KnownLeader": True,
                "ConsistencyLevel": "leader", "NotModified": False, "Backend": 0, "ResultsFilteredByACLs": False,
            }  # fmt: skip
            return encode(shown)

        def index(reader: Reader) -> int:
            return max(reader.listing_revision(DEFAULT_NAMESPACE), reader.nodes_revision())

        read = Read((("services", DEFAULT_NAMESPACE), ("nodes", "")), index, render)
        return answer(request, reader, read_options(request, self._site), read)


def _guard(reader: Reader) -> None:
    reader.require(Resource.OPERATOR, Level.READ, "")
