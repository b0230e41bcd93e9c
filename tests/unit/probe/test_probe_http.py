from __future__ import annotations

import asyncio
from typing import Any

import pytest
from probe_world import GROUND, answering, look, serving

from free_ports import free_port
from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckKind, CheckStatus
from townhall.probe import Finding, Ground
from townhall.probe.http import probe_http
from townhall.probe.ranges import Ranges

PASSING, WARNING, CRITICAL = CheckStatus.PASSING, CheckStatus.WARNING, CheckStatus.CRITICAL


def http(*replies: bytes, path: str = "/health", **fields: Any) -> tuple[Finding, list[bytes]]:
    seen: list[bytes] = []

    async def main() -> Finding:
        async with serving(answering(*replies, seen=seen)) as port:
            replies_with_port = f"http://127.0.0.1:{port}{path}"
            definition = CheckDefinition(kind=CheckKind.HTTP, target=replies_with_port, **fields)
            return await asyncio.wait_for(probe_http(definition, GROUND), 120)

    return asyncio.run(main()), seen


@pytest.mark.parametrize(
    ("code", "status"), [(200, PASSING), (204, PASSING), (299, PASSING), (429, WARNING), (302, CRITICAL), (404, CRITICAL), (500, CRITICAL)]
)  # fmt: skip
def test_codes(code: int, status: CheckStatus):
    found, _ = http(b"HTTP/1.1 %d Word\r\nContent-Length: 2\r\n\r\nhi" % code)
    assert found.status is status
    assert f": {code} Word Output: " in found.output


def test_the_request_is_what_was_asked_for():
    found, seen = http(
        b"HTTP/1.1 200 OK\r\n\r\n",
        path="/x?y=1",
        method="post",
        headers={"X-A": ("1", "2"), "host": ("web.test",), "Content-Length": ("9",)},
        body="hello",
    )
    assert found.status is PASSING
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /x?y=1 HTTP/1.1"
    assert {b"X-A: 1", b"X-A: 2", b"Host: web.test", b"Content-Length: 5", b"User-Agent: Consul Health Check"} <= set(
        lines
    )
    assert body == b"hello"


@pytest.mark.parametrize("smuggled", [{"X": ("1\r\nY: 2",)}, {"X\n": ("1",)}, {"X": ("\0",)}])
def test_a_header_cannot_smuggle_another(smuggled: dict[str, tuple[str, ...]]):
    found, seen = http(b"HTTP/1.1 200 OK\r\n\r\n", headers=smuggled)
    assert found.status is CRITICAL
    assert not seen


@pytest.mark.parametrize("method", ["GET / HTTP/1.1\r\nX:", "G T", "Ä"])
def test_a_method_is_a_token(method: str):
    assert http(b"HTTP/1.1 200 OK\r\n\r\n", method=method)[0].status is CRITICAL


def test_bodies_are_cut_and_chunks_joined():
    long = b"x" * (2 * limits.PROBE_READ_SIZE_MAX)
    found, _ = http(b"HTTP/1.1 200 OK\r\n\r\n" + long)
    assert found.output.count("x") == limits.CHECK_OUTPUT_SIZE_MAX
    found, _ = http(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
    assert found.output.endswith("Output: abc")
    found, _ = http(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert found.status is CRITICAL


def test_interim_answers_are_skipped_and_head_has_no_body():
    found, _ = http(b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n!")
    assert found.output.endswith("200 OK Output: !")
    found, _ = http(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", method="HEAD")
    assert found.status is PASSING


@pytest.mark.parametrize(
    "garbage",
    [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"x" * limits.PROBE_HEAD_SIZE_MAX + b"\r\n\r\n",
     b"x" * (limits.PROBE_READ_SIZE_MAX + 10)],
)  # fmt: skip
def test_what_is_no_answer_is_critical(garbage: bytes):
    assert http(garbage)[0].status is CRITICAL


@pytest.mark.parametrize(
    "url", ["", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999/", "http://[::1/", "http://a b/"]
)
def test_what_is_no_url_is_critical(url: str):
    assert look(probe_http, CheckDefinition(target=url)).status is CRITICAL


def test_redirects_stay_on_the_host():
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    found, seen = http(b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n", ok)
    assert found.status is PASSING
    assert seen[1].startswith(b"GET /there ")
    found, seen = http(b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n", ok, follow_redirects=False)
    assert (found.status, len(seen)) == (CRITICAL, 1)
    elsewhere = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2:%d/\r\n\r\n" % free_port()
    found, seen = http(elsewhere, ok)
    assert (found.status, len(seen)) == (CRITICAL, 1)
    assert "another host" in found.output
    found, seen = http(b"HTTP/1.1 303 See\r\nLocation: /there\r\n\r\n", ok, method="POST")
    assert seen[1].startswith(b"GET /there ")
    found, seen = http(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n")
    assert (found.status, len(seen)) == (CRITICAL, limits.PROBE_REDIRECTS_MAX + 1)


def test_a_peer_that_hangs_runs_into_the_timeout():
    async def main() -> Finding:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with serving(hang) as port:
            return await probe_http(CheckDefinition(target=f"http://127.0.0.1:{port}/"), Ground(Ranges(), 100))

    found = asyncio.run(main())
    assert found.status is CRITICAL
    assert "timed out" in found.output
