"""Answers of the gateway itself: ``application/problem+json`` (RFC 9457) with what was wrong and what to do. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from townhall.model.errors import Misuse
from townhall.wire.grpc import percent_encoded
from townhall.wire.http1 import render_head

__all__ = ["GRPC", "TABLE", "Problem", "answer", "of_misuse", "said", "said_in_grpc"]


class Problem(NamedTuple):
    """One thing that the gateway says. ``code`` is stable and meant for programs."""

    status: int
    code: str
    title: str
    advice: str
    retry_after_s: int = 0


TABLE: Final = {
    row.code: row
    for row in (
        Problem(204, "last_hop", "", ""),
        Problem(404, "no_route", "No route is for this request", "ask for a host and path that the gateway serves"),
        Problem(404, "unknown_service", "No such service", "check the name; 'townhall services' lists what there is"),
        Problem(408, "request_timeout", "The request did not come to its end in time", "send the whole body"),
        Problem(429, "rate_limited", "Too many requests", "wait as long as Retry-After says"),
        Problem(
            508,
            "loop",
            "The request goes round in circles",
            "look where routes lead, and give each gateway its own via",
        ),
        Problem(502, "connect_failed", "No instance could be reached", "try again; see the instances' health", 1),
        Problem(502, "reset", "The instance broke off", "look whether it was done before you send it again"),
        Problem(502, "bad_answer", "The instance's answer is not HTTP", "ask the service's owner to look at it"),
        Problem(503, "no_instance", "No instance may be called", "try again; 'townhall instances' shows why", 1),
        Problem(503, "overloaded", "Too many requests at the same time", "try again later", 1),
        Problem(503, "circuit_open", "The service fails all the time", "try again later", 5),
        Problem(503, "stopping", "The gateway is shutting down", "try again, perhaps elsewhere", 1),
        Problem(504, "timeout", "The service did not answer in time", "look whether it was done before you repeat it"),
    )
}
_TITLES: Final = {
    400: "The request cannot be understood",
    408: "The request did not come to its end in time",
    413: "The body is too large",
    414: "The request target is too long",
    417: "The expectation cannot be met",
    431: "The header is too large",
    501: "Not done here",
    505: "Another version of HTTP",
}


def answer(problem: Problem, detail: str, *, close: bool, body: bool = True, retry_after_s: int = 0) -> bytes:
    """The bytes of an answer; without ``body`` for HEAD."""
    fields, content = said(problem, detail, retry_after_s=retry_after_s)
    if close:
        fields.append((b"connection", b"close"))
    return render_head(problem.status, fields) + b"\r\n" + (content if body else b"")


def said(problem: Problem, detail: str, *, retry_after_s: int = 0) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Fields and content of an answer."""
    if problem.status == 204:
        return [], b""
    text = {
        "type": f"urn:townhall:gateway:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": detail,
        "advice": problem.advice,
    }
    content = msgspec.json.encode(text)
    fields = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(content)),
        (b"cache-control", b"no-store"),
    ]
    wait_s = retry_after_s or problem.retry_after_s
    if wait_s:
        fields.append((b"retry-after", b"%d" % wait_s))
    return fields, content


GRPC: Final = b"application/grpc"
_STATUSES: Final = {400: 13, 404: 12, 413: 8, 414: 13, 429: 14, 431: 13, 501: 12, 502: 14, 503: 14, 508: 13}
"""INTERNAL, UNIMPLEMENTED, RESOURCE_EXHAUSTED and UNAVAILABLE, as gRPC's table for HTTP's statuses has them."""
_DEADLINE_EXCEEDED: Final = 4


def said_in_grpc(problem: Problem, detail: str) -> list[tuple[bytes, bytes]]:
    """The fields of the same answer for a client of gRPC, which looks at them alone."""
    status = _STATUSES.get(problem.status, _DEADLINE_EXCEEDED)
    message = percent_encoded(f"{problem.code}: {detail}")
    return [(b"content-type", GRPC), (b"grpc-status", b"%d" % status), (b"grpc-message", message)]


def of_misuse(error: Misuse) -> Problem:
    """The problem of a request that was refused."""
    status = error.fields.get("http_status", 400)
    assert isinstance(status, int)
    advice = error.advice or "send what RFC 9112 allows, once"
    return Problem(status, error.code, _TITLES.get(status, "The request is refused"), advice)
