"""After which failures a call is tried again, and what the registry is told."""

from __future__ import annotations

import asyncio

import pytest

from townhall.client.attempts import FAILURES, Attempts, begin_call, failure_kind, was_sent
from townhall.client.records import Instance
from townhall.model import limits
from townhall.model.errors import PeerMisbehaved, Unreachable

REFUSED = Unreachable("x", kind="connect", sent=False)
BROKEN = Unreachable("x", kind="reset", sent=True)


def test_an_idempotent_call_is_retried_as_often_as_said() -> None:
    attempts = Attempts()
    assert [attempts.again(BROKEN) for _ in range(limits.CLIENT_RETRIES_DEFAULT + 1)] == [
        True
    ] * limits.CLIENT_RETRIES_DEFAULT + [False]


def test_others_only_when_the_instance_cannot_have_acted() -> None:
    attempts = Attempts(retries=5, idempotent=False)
    assert attempts.again(REFUSED)
    assert attempts.again(ConnectionRefusedError())
    for error in (BROKEN, TimeoutError(), ConnectionResetError(), EOFError(), PeerMisbehaved("x")):
        assert not attempts.again(error)
        assert was_sent(error)


def test_what_was_tried_is_remembered() -> None:
    attempts = Attempts()
    attempts.begin(Instance(id="a", service="s", address="127.0.0.1"))
    assert attempts.tried == {"a"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unreachable("x", kind="5xx"), "5xx"),
        (Unreachable("x"), "connect"),
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(), "connect"),
        (ConnectionResetError(), "reset"),
        (asyncio.IncompleteReadError(b"", 1), "reset"),
        (PeerMisbehaved("x"), "reset"),
    ],
)
def test_failures_have_the_registry_s_words(error: Exception, kind: str) -> None:
    assert isinstance(error, FAILURES)
    assert failure_kind(error) == kind


def test_the_application_s_errors_are_no_failures() -> None:
    assert not isinstance(ValueError(), FAILURES)
    assert not isinstance(asyncio.CancelledError(), FAILURES)


def test_terms_of_a_call() -> None:
    terms, attempts = begin_call(
        {"timeout": 10.0, "try_timeout": 4.0, "retries": 1, "failures": (KeyError,)}, now_s=100.0
    )
    assert (terms.late(109.9), terms.late(110.0)) == (False, True)
    assert [terms.try_ends(now) for now in (100.0, 105.0, 109.0)] == [104.0, 109.0, 110.0]
    assert KeyError in terms.failures
    assert set(FAILURES) < set(terms.failures)
    assert (attempts.retries, attempts.idempotent) == (1, True)
    endless, _ = begin_call({}, now_s=100.0)
    assert (endless.late(1e9), endless.try_ends(100.0)) == (False, None)
    by_itself, _ = begin_call({"timeout": 10.0}, now_s=100.0, timed=False)
    assert (by_itself.late(110.0), by_itself.try_ends(100.0)) == (True, None)
