from __future__ import annotations

import pytest

from townhall.gateway.config import read_config, read_route, seconds
from townhall.model.errors import InvalidField
from townhall.model.limits import PROXY_ROUTES_MAX

FULL = """
listen = ["127.0.0.1:7080", "[::1]:7080"]
admin = "127.0.0.1:7081"
auto = true
trusted_proxies = ["127.0.0.0/8"]
header_size_max = "16KiB"
client_idle = "90s"

[tls]
cert = "c.pem"
key = "k.pem"

[log]
access = "-"
format = "json"

[registry]
server = "http://127.0.0.1:7500"
zone = "a"

[[route]]
host = "API.example.org"
path = "/users"
headers = { x-canary = "yes" }
methods = ["get"]
service = "shop/default/user"
balancer = "ring_hash"
key = "cookie:sid"
timeout = "5s"
first_byte_timeout = 2
retries = 1
retry_statuses = [503]
strip_prefix = true
rate = "120/m"
burst = 5
body_size_max = "1MB"

[[route]]
service = "dns://users.internal:80"
"""


def test_a_whole_file() -> None:
    found = read_config(FULL)
    assert found.listen == ("127.0.0.1:7080", "[::1]:7080")
    assert (found.admin, found.tls.cert, found.log.format, found.registry.zone) == (
        "127.0.0.1:7081",
        "c.pem",
        "json",
        "a",
    )
    assert (found.options.auto, found.options.header_size_max, found.options.client_idle) == (True, 16_384, 90.0)
    first, second = found.routes
    assert (first.host, first.methods, first.rate, first.timeout) == ("api.example.org", ("GET",), 2.0, 5.0)
    assert (first.first_byte_timeout, first.body_size_max, first.retry_statuses) == (2.0, 1_000_000, frozenset({503}))
    assert (second.name, second.path) == ("/", "/")
    assert read_config("").routes == ()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("listen = 5", "listen"),
        ("x = 1", "gateway: x"),
        ("= 1", "file"),
        ("route = 1", "route"),
        ("auto = 1", "gateway"),
        ("client_idle = 0", "client_idle"),
        ('trusted_proxies = ["x"]', "trusted_proxies"),
        ('via = "a b"', "via"),
        ("tls = 1", "tls"),
        ('[tls]\ncert = "a"', "tls"),
        ('[log]\nformat = "xml"', "log.format"),
        ("[[route]]", "route 1"),
        ('[[route]]\nservice = "a b"', "route 1: service"),
        ('[[route]]\nservice = "http://x"', "source"),
        ('[[route]]\nservice = "s"\nname = 5', "route 1"),
        ('[[route]]\nservice = "s"\nnonsense = 5', "route 1: nonsense"),
        ('[[route]]\nservice = "s"\nhost = "a/b"', "route 1: host"),
        ('[[route]]\nservice = "s"\nhost = "a:80"', "route 1: host"),
        ('[[route]]\nservice = "s"\npath = "users"', "route 1: path"),
        ('[[route]]\nservice = "s"\npath = "/a?b"', "route 1: path"),
        ('[[route]]\nservice = "s"\nheaders = { "a b" = "c" }', "route 1: headers"),
        ('[[route]]\nservice = "s"\nbalancer = "best"', "route 1: balancer"),
        ('[[route]]\nservice = "s"\nkey = "ip"', "route 1: key"),
        ('[[route]]\nservice = "s"\ntimeout = "soon"', "route 1: timeout"),
        ('[[route]]\nservice = "s"\ntimeout = 0', "route 1: timeout"),
        ('[[route]]\nservice = "s"\nretries = 99', "route 1: retries"),
        ('[[route]]\nservice = "s"\nretry_statuses = [404]', "route 1: retry_statuses"),
        ('[[route]]\nservice = "s"\nrate = 5', "route 1: rate"),
        ('[[route]]\nservice = "s"\nbody_size_max = "lots"', "route 1: body_size_max"),
        ('[[route]]\nservice = "s"\nmax_requests = 0', "route 1: limits"),
        ('[[route]]\nservice = "s"\ntls_name = "x"', "route 1: tls_ca"),
        ('[[route]]\nservice = "s"\n[[route]]\nservice = "t"', "route"),
    ],
)
def test_mistakes_are_named_with_their_place(text: str, place: str) -> None:
    with pytest.raises(InvalidField) as error:
        read_config(text)
    assert error.value.fields["field"] == place


def test_a_misspelt_key_is_told_the_right_one() -> None:
    with pytest.raises(InvalidField, match=r"retires: is not known; did you mean retries\?"):
        read_config('[[route]]\nservice = "s"\nretires = 1')


def test_too_many_routes() -> None:
    text = "".join(f'[[route]]\npath = "/{number}"\nservice = "s"\n' for number in range(PROXY_ROUTES_MAX + 1))
    with pytest.raises(InvalidField, match="more than"):
        read_config(text)


def test_routes_of_the_command_line() -> None:
    assert (read_route("/users=user").path, read_route("/users=user").service) == ("/users", "user")
    route = read_route("API.example.org/a=static://127.0.0.1:80")
    assert (route.host, route.path, route.service) == ("api.example.org", "/a", "static://127.0.0.1:80")
    assert read_route("x=user").path == "/"
    for text in ("users", "/users=", "a b/=c"):
        with pytest.raises(InvalidField):
            read_route(text)


def test_durations() -> None:
    assert [seconds(one, "t") for one in ("500ms", "1.5s", "2m", "1h", 3, 0.5)] == [0.5, 1.5, 120.0, 3600.0, 3.0, 0.5]
    for bad in ("5", "s", True, -1, None):
        with pytest.raises(InvalidField):
            seconds(bad, "t")
