"""dnspython, the resolver library of Python, asks Townhall for what was registered the Consul way. Prints TAP.

The package is installed once into ``.cache/interop/dnspython``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "interop" / "dnspython"
PYTHON = CACHE / "bin" / "python"
NEEDS = ["dnspython==2.8.0"]
MANY = 60


def install() -> str:
    """Fetch what is missing; the reason when that is impossible."""
    done = CACHE / "ready"
    if done.exists() and done.read_text() == "\n".join(NEEDS):
        return ""
    venv.create(CACHE, with_pip=True, clear=True)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "-q", "install", *NEEDS]
    ran = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
    if ran.returncode:
        return f"pip: {(ran.stderr.strip().splitlines() or ['failed'])[-1][:200]}"
    done.write_text("\n".join(NEEDS))
    return ""


def call(path: str, body: object = None, method: str = "PUT") -> None:
    url = os.environ["TOWNHALL_CONSUL_URL"] + path
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=20):
        pass


def register() -> None:
    for n, address in enumerate(("127.0.20.1", "127.0.20.2", "::1"), 1):
        tags = ["v2"] if n == 2 else ["v1"]
        call(
            "/v1/agent/service/register",
            {"Name": "dpy", "ID": f"d{n}", "Address": address, "Port": 8000 + n, "Tags": tags},
        )
    for n in range(MANY):
        call("/v1/agent/service/register", {"Name": "dpy-many", "ID": f"m{n}", "Address": f"127.0.21.{n}", "Port": 80})
    node = {"Node": "dpy-node", "Address": "127.0.22.1", "NodeMeta": {"rack": "r1"}}
    call("/v1/catalog/register", {**node, "Service": {"Service": "dpy-db", "ID": "db", "Port": 5432}})
    call("/v1/query", {"Name": "dpy-q", "Service": {"Service": "dpy-db"}, "DNS": {"TTL": "15s"}}, "POST")


def check(what: str, found: object, wanted: object) -> None:
    """One line of TAP."""
    print(f"{'ok' if found == wanted else 'not ok'} - {what}", flush=True)
    if found != wanted:
        print(f"# found {found!r}, wanted {wanted!r}", flush=True)


def place() -> tuple[str, int]:
    host, _, port = os.environ["TOWNHALL_DNS_URL"].rpartition("//")[2].rpartition(":")
    return host, int(port)


def ask_by_resolver() -> None:
    import dns.resolver  # noqa: PLC0415 - only in the environment of its own

    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [place()[0]], place()[1]
    resolver.lifetime = 20.0

    def texts(name: str, kind: str, **options: bool) -> list[str]:
        return sorted(record.to_text() for record in resolver.resolve(name, kind, **options))

    def miss(name: str, kind: str) -> tuple[str, list[str]]:
        """How it fails, and what its authority section says."""
        try:
            return "answered", texts(name, kind)
        except dns.resolver.NXDOMAIN as error:
            answer = error.response(dns.name.from_text(name))
        except dns.resolver.NoAnswer as error:
            answer = error.kwargs["response"]
        soa = [f"{record.rdtype.name} {record.minimum}" for rrset in answer.authority for record in rrset]
        return dns.rcode.to_text(answer.rcode()), soa

    check("A", texts("dpy.service.consul", "A"), ["127.0.20.1", "127.0.20.2"])
    check("A over TCP", texts("dpy.service.consul", "A", tcp=True), ["127.0.20.1", "127.0.20.2"])
    check("AAAA", texts("dpy.service.consul", "AAAA"), ["::1"])
    check("case does not matter", texts("DPY.Service.CONSUL", "AAAA"), ["::1"])
    check("a tag", texts("v2.dpy.service.consul", "A"), ["127.0.20.2"])
    check("RFC 2782", [text.split()[2] for text in texts("_dpy._v2.service.consul", "SRV")], ["8002"])
    resolver.use_edns(0, 0, 1232)
    answer = resolver.resolve("dpy.service.consul", "SRV")
    check(
        "SRV with EDNS",
        sorted((one.priority, one.weight, one.port) for one in answer),
        [(1, 1, n) for n in (8001, 8002, 8003)],
    )
    extra = {
        rrset.name.to_text(): rrset[0].to_text() for rrset in answer.response.additional if rrset.rdtype.name != "TXT"
    }
    check(
        "each target has its address beside it",
        sorted(extra[one.target.to_text()] for one in answer),
        ["127.0.20.1", "127.0.20.2", "::1"],
    )
    check("the answer says what it takes", answer.response.edns, 0)
    check("as its resolver does by itself", len(texts("dpy-many.service.consul", "SRV")), MANY)
    check("NXDOMAIN with the SOA", miss("dpy-none.service.consul", "A"), ("NXDOMAIN", ["SOA 0"]))
    check("no record of the type, with the SOA", miss("v2.dpy.service.consul", "AAAA"), ("NOERROR", ["SOA 0"]))
    check("PTR", [record.to_text() for record in resolver.resolve_address("127.0.22.1")], ["dpy-node.node.dc1.consul."])
    check("a node", texts("dpy-node.node.consul", "A"), ["127.0.22.1"])
    check("and its metadata", texts("dpy-node.node.consul", "TXT"), ['"rack=r1"'])
    prepared = resolver.resolve("dpy-q.query.consul", "A")
    check(
        "a prepared query with its TTL", ([one.to_text() for one in prepared], prepared.rrset.ttl), (["127.0.22.1"], 15)
    )
    check("SOA of the domain", [text.split()[0] for text in texts("consul", "SOA")], ["ns.consul."])
    call("/v1/agent/service/deregister/d3")
    check("gone when it is deregistered", miss("dpy.service.consul", "AAAA")[0], "NOERROR")


def ask_by_message() -> None:
    import dns.edns  # noqa: PLC0415 - only in the environment of its own
    import dns.flags  # noqa: PLC0415
    import dns.message  # noqa: PLC0415
    import dns.query  # noqa: PLC0415

    host, port = place()
    query = dns.message.make_query("dpy-many.service.consul", "SRV", use_edns=0, payload=1232)
    short = dns.query.udp(query, host, 20, port)
    check(
        "too much for UDP is cut and says so",
        (bool(short.flags & dns.flags.TC), 0 < len(short.answer[0]) < MANY),
        (True, True),
    )
    check("and fits what the client takes", len(short.to_wire()) <= 1232, True)
    whole, over_tcp = dns.query.udp_with_fallback(query, host, 20, port)
    check("the library comes by TCP then, and gets all", (over_tcp, len(whole.answer[0])), (True, MANY))
    subnet = dns.message.make_query(
        "dpy.service.consul", "A", use_edns=0, options=[dns.edns.ECSOption("127.0.0.0", 24)]
    )
    scopes = [
        option.scopelen
        for option in dns.query.udp(subnet, host, 20, port).options
        if isinstance(option, dns.edns.ECSOption)
    ]
    check("a client subnet comes back with scope 0", scopes, [0])


def main() -> int:
    if "--inside" in sys.argv:
        ask_by_resolver()
        ask_by_message()
        return 0
    why = install()
    if why:
        print(f"1..0 # SKIP {why}")
        return 0
    register()
    return subprocess.run([str(PYTHON), __file__, "--inside"], timeout=300, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
