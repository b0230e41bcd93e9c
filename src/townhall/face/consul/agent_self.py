"""``/v1/agent/self`` and its kin: what clients ask the agent about itself, and what they may tell it to do."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from townhall.core.queries import Reader
from townhall.face import Headers, Pulled, Reply, Request, Route, Stream, Verb
from townhall.face.consul.blocking import json_reply, policy
from townhall.face.consul.errors import PLAIN_TEXT, bad, text
from townhall.face.consul.kv_shapes import SPACE
from townhall.face.consul.picture import Picture
from townhall.face.consul.requests import first, flag, read_options
from townhall.face.consul.site import CONSUL_VERSION, SERVER_PORT
from townhall.model.access import Level, Resource

__all__ = ["AgentSelf", "monitor_level"]

_SERF_PORT = 8301
_BUILD_DATE = "2026-01-01T00:00:00Z"
_MONITOR_HEARTBEAT_MS = 30_000
_LOG_LEVELS = {"trace": 0, "debug": 10, "info": 20, "warn": 30, "warning": 30, "err": 40, "error": 40}
"""The least severity by its name, in the numbers of Python's logs."""


def monitor_level(request: Request) -> int:
    """The least severity that a client wants to see. Raises ``Misuse`` for a word that is none."""
    asked = first(request, "loglevel", "info")
    if asked.lower() not in _LOG_LEVELS:
        raise bad(f"Unknown log level: {asked[:64]}")
    return _LOG_LEVELS[asked.lower()]


class AgentSelf:
    """Handlers about the agent as such. There is one server, which is its own leader."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.site = picture.site

    def routes(self) -> Sequence[Route]:
        """The rows of the table."""
        return (
            Route("GET", "/v1/agent/self", self.me),
            Route("GET", "/v1/agent/members", self.members),
            Route("GET", "/v1/agent/version", self.version),
            Route("GET", "/v1/agent/host", self.host),
            Route("GET", "/v1/agent/metrics", self.metrics),
            Route("GET", "/v1/agent/monitor", self.monitor),
            Route("PUT", "/v1/agent/reload", self.accept),
            Route("PUT", "/v1/agent/leave", self.accept),
            Route("PUT", "/v1/agent/join/{address...}", self.accept),
            Route("PUT", "/v1/agent/force-leave/{node...}", self.force_leave),
            Route("PUT", "/v1/agent/token/{kind...}", self.token),
        )

    def member(self) -> dict[str, Any]:
        """The one member."""
        site = self.site
        return {
            "Name": site.node, "Addr": site.address, "Port": _SERF_PORT,
            "Tags": {
                "acls": "0", "build": f"{CONSUL_VERSION}:townhall", "dc": site.datacenter, "ft_fs": "1", "ft_si": "1",
                "grpc_port": "0", "id": site.node_id, "port": str(SERVER_PORT), "raft_vsn": "3", "role": "consul",
                "segment": "", "vsn": "2", "vsn_max": "3", "vsn_min": "2", "wan_join_port": "8302",
            },
            "Status": 1, "ProtocolMin": 1, "ProtocolMax": 5, "ProtocolCur": 2, "DelegateMin": 2, "DelegateMax": 5,
            "DelegateCur": 4,
        }  # fmt: skip

    def me(self, request: Request, reader: Reader) -> Verb:
        """Configuration, member and statistics, as far as there is anything to tell."""
        reader.require(Resource.AGENT, Level.READ, "")
        site, position, counts = self.site, str(reader.position), request.live.status()
        shown = {
            "Config": {
                "Datacenter": site.datacenter, "PrimaryDatacenter": site.datacenter, "NodeName": site.node,
                "NodeID": site.node_id, "Revision": f"townhall-{site.version}", "Server": True,
                "Version": CONSUL_VERSION, "BuildDate": _BUILD_DATE,
            },
            "DebugConfig": {
                "ACLsEnabled": reader.state.access_enabled, "Datacenter": site.datacenter, "NodeName": site.node,
                "ServerMode": True, "Version": CONSUL_VERSION, "EnableScriptChecks": site.script_checks,
                "EnableRemoteScriptChecks": site.script_checks, "UIConfig": {"Enabled": False},
            },
            "Coord": {"Vec": [0] * 8, "Error": 1.5, "Adjustment": 0, "Height": 0.00001},
            "Member": self.member(),
            "Stats": {
                "agent": {
                    "check_monitors": "0", "check_ttls": str(counts.get("ttl_checks", 0)),
                    "checks": str(len(reader.state.checks)), "services": str(counts.get("instances", 0)),
                },
                "build": {"prerelease": "", "revision": "townhall", "version": CONSUL_VERSION, "version_metadata": ""},
                "consul": {
                    "acl": "enabled" if reader.state.access_enabled else "disabled", "bootstrap": "true",
                    "known_datacenters": "1", "leader": "true", "leader_addr": f"{site.address}:{SERVER_PORT}",
                    "server": "true",
                },
                "raft": {"applied_index": position, "commit_index": position, "num_peers": "0", "state": "Leader"},
                "serf_lan": {"members": "1", "failed": "0", "left": "0"},
                "serf_wan": {"members": "1", "failed": "0", "left": "0"},
            },
            "Meta": site.meta,
            "xDS": {"SupportedProxies": {}, "Port": 0, "Ports": {"Plaintext": 0, "TLS": 0}},
        }  # fmt: skip
        return json_reply(reader, read_options(request, site), shown)

    def members(self, request: Request, reader: Reader) -> Verb:
        """The one member; between datacenters its name has the datacenter's behind it."""
        member = self.member()
        if flag(request, "wan"):
            member["Name"] = f"{self.site.node}.{self.site.datacenter}"
        return json_reply(reader, read_options(request, self.site), [member])

    def version(self, request: Request, reader: Reader) -> Verb:
        """Of the Consul whose protocol this is."""
        shown = {"SHA": "townhall", "BuildDate": _BUILD_DATE, "HumanVersion": CONSUL_VERSION, "FIPS": ""}
        return json_reply(reader, read_options(request, self.site), shown)

    def host(self, request: Request, reader: Reader) -> Verb:
        """The machine is nobody's business here; the fields are there."""
        reader.require(Resource.OPERATOR, Level.READ, "")
        shown = {
            "Memory": {}, "CPU": [], "Disk": {}, "CollectionTime": request.live.now_ms() * 1_000_000, "Errors": None,
            "Host": {"hostname": self.site.node, "os": "linux"},
        }  # fmt: skip
        return json_reply(reader, read_options(request, self.site), shown)

    def metrics(self, request: Request, reader: Reader) -> Verb:
        """The registry's counts as gauges; Prometheus' form where the process hands it in."""
        reader.require(Resource.AGENT, Level.READ, "")
        if first(request, "format") == "prometheus":
            reason = b"Prometheus is not enabled here; the native port has /metrics"
            return Reply(200, b"", ((b"X-Consul-Reason", reason), policy(reader)))
        moment = datetime.datetime.fromtimestamp(request.live.now_ms() // 1_000, datetime.UTC)
        shown = {
            "Timestamp": moment.strftime("%Y-%m-%d %H:%M:%S +0000 UTC"), "Gauges": self._gauges(request, reader),
            "Points": [], "Counters": [], "Samples": [],
        }  # fmt: skip
        return json_reply(reader, read_options(request, self.site), shown)

    def _gauges(self, request: Request, reader: Reader) -> list[dict[str, Any]]:
        """Consul's own about what is registered, under their names, then everything that this registry counts."""
        state, labels = reader.state, {"datacenter": self.site.datacenter}
        space = state.spaces.get(SPACE)
        named = {
            "consul.state.nodes": len(self.picture.nodes(reader)),
            "consul.state.services": len(set(self.picture.names(reader)) | {"consul"}),
            "consul.state.service_instances": state.instance_count + 1,
            "consul.state.kv_entries": space.count(b"\0", b"\0") if space is not None else 0,
            "consul.members.servers": 1, "consul.autopilot.healthy": 1, "consul.raft.applied_index": reader.position,
        }  # fmt: skip
        found: list[dict[str, Any]] = [
            {"Name": name, "Value": value, "Labels": labels} for name, value in sorted(named.items())
        ]
        found += [
            {"Name": f"townhall.{name}", "Value": value, "Labels": {}}
            for name, value in sorted(request.live.status().items())
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        return found

    def monitor(self, request: Request, reader: Reader) -> Verb:
        """A stream that says where the log is; it stays open as clients expect."""
        reader.require(Resource.AGENT, Level.READ, "")
        monitor_level(request)
        lines = [b"[INFO] the log of this registry is on its standard error\n"]
        return Stream(
            (), lambda reader: Pulled(lines.pop()) if lines else None, (policy(reader),), PLAIN_TEXT,
            heartbeat=b"\n", heartbeat_ms=_MONITOR_HEARTBEAT_MS,
        )  # fmt: skip

    def accept(self, request: Request, reader: Reader) -> Verb:
        """Nothing to do: it is one server for everybody, which no single client may reload, join up or send away."""
        reader.require(Resource.AGENT, Level.WRITE, "")
        headers: Headers = (policy(reader),)
        return Reply(200, b"", headers)

    def force_leave(self, request: Request, reader: Reader) -> Verb:
        """A node that is known stays as it is: nobody gossips here, so nobody can be thrown out of it."""
        name = request.segments.get("node", "")
        if self.picture.node(reader, name.removesuffix(f".{self.site.datacenter}")) is None or not name:
            raise bad(f"agent: No node found with name '{name}'", 500)
        return self.accept(request, reader)

    def token(self, request: Request, reader: Reader) -> Verb:
        """The agent has no tokens of its own."""
        reader.require(Resource.AGENT, Level.WRITE, "")
        if not reader.state.access_enabled and not reader.actor.restricted:
            return text(401, "ACL support disabled")
        return Reply(200, b"", (policy(reader),))
