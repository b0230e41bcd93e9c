from __future__ import annotations

import pytest

from townhall.face.consul.bodies import Body
from townhall.face.consul.checks import AGENT_CHECK, agent_definition, service_checks
from townhall.face.consul.site import Site
from townhall.model.check import CheckKind
from townhall.model.errors import Misuse

SITE = Site(node="n1")


def definition(value, site=SITE):
    return agent_definition(Body(value, AGENT_CHECK), site)


@pytest.mark.parametrize(
    ("value", "kind", "target"),
    [
        (
            {"HTTP": "http://127.0.0.1:1/x", "Interval": "5s", "Header": {"A": ["b"]}},
            CheckKind.HTTP,
            "http://127.0.0.1:1/x",
        ),
        ({"tcp": "127.0.0.1:1", "interval": "10s", "timeout": "30s"}, CheckKind.TCP, "127.0.0.1:1"),
        ({"UDP": "127.0.0.1:1", "Interval": "5s"}, CheckKind.UDP, "127.0.0.1:1"),
        ({"GRPC": "127.0.0.1:1/svc", "Interval": "5s", "GRPCUseTLS": True}, CheckKind.GRPC, "127.0.0.1:1"),
        ({"TTL": "5s"}, CheckKind.TTL, ""),
        ({"AliasService": "web"}, CheckKind.ALIAS, ""),
    ],
)
def test_kinds(value, kind, target):
    found = definition(value)
    assert (found.kind, found.target) == (kind, target)


def test_details_are_kept():
    found = definition(
        {
            "HTTP": "http://127.0.0.1:1/", "Interval": "100ms", "Method": "PUT", "Body": "x", "DisableRedirects": True,
            "SuccessBeforePassing": 2, "FailuresBeforeCritical": 3, "DeregisterCriticalServiceAfter": "30s",
            "Header": {"A": ["b", "c"]},
        }
    )  # fmt: skip
    assert found.interval_ms == 1_000
    assert not found.follow_redirects
    assert found.headers == {"A": ("b", "c")}
    assert (found.success_before_passing, found.failures_before_critical, found.deregister_after_ms) == (2, 3, 30_000)
    assert definition({"GRPC": "127.0.0.1:1/svc", "Interval": "5s"}).grpc_service == "svc"
    assert definition({"AliasNode": "ext", "AliasService": "web"}).alias_service == "ext/web"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "TTL must be > 0 for TTL checks"),
        ({"TTL": "1s", "HTTP": "http://127.0.0.1/", "Interval": "1s"}, "Interval and TTL cannot both be specified"),
        ({"HTTP": "http://127.0.0.1/"}, "Interval must be > 0"),
        ({"AliasService": "a", "TTL": "1s"}, "TTL must be not be set for Alias checks"),
        ({"Args": ["true"], "Interval": "1s"}, "Scripts are disabled"),
        ({"H2PING": "127.0.0.1:1", "Interval": "1s"}, "H2PING checks are not run"),
        ({"TTL": "1s", "FailuresBeforeWarning": 2}, "FailuresBeforeWarning can't be higher"),
        ({"HTTP": "http://127.0.0.1/", "Interval": "1s", "Header": {"A": 1}}, "field Header"),
    ],
)
def test_refusals(value, message):
    with pytest.raises(Misuse) as refused:
        definition(value)
    assert message in refused.value.message


def test_scripts_run_only_where_they_may():
    found = definition({"Args": ["true"], "Interval": "1s"}, Site(script_checks=True))
    assert (found.kind, found.arguments) == (CheckKind.SCRIPT, ("true",))


def test_an_empty_check_of_a_service_is_none():
    assert service_checks(Body({"Check": {}}, None), SITE, service="a", name="a") == ()
    (check,) = service_checks(Body({"Check": {"TTL": "1s"}}, None), SITE, service="a", name="b")
    assert (check.id, check.name, check.status) == ("service:a", "Service 'b' check", None)
    with pytest.raises(Misuse, match="Status for checks must"):
        service_checks(Body({"Check": {"TTL": "1s", "Status": "fine"}}, None), SITE, service="a", name="b")
