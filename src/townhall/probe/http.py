"""HTTP(S): 2xx is passing, 429 a warning, everything else critical. Redirects are followed on the same host only."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from townhall.model import limits
from townhall.model.check import CheckDefinition, CheckStatus
from townhall.probe import Finding, Ground
from townhall.probe.connection import FAILURES, Target, Tls, connected, failed, why

__all__ = ["probe_http"]

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OWN: Final = frozenset({"host", "content-length", "connection", "transfer-encoding"})
"""Header fields that follow from the request itself."""
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Answer(NamedTuple):
    """What came back."""

    code: int
    reason: str
    headers: dict[str, str]
    body: bytes


async def probe_http(definition: CheckDefinition, ground: Ground) -> Finding:
    """Ask, following redirects within the host."""
    method = (definition.method or "GET").upper()
    url = definition.target
    try:
        async with asyncio.timeout(ground.timeout_ms / 1000):
            for _ in range(limits.PROBE_REDIRECTS_MAX + 1):
                answer = await _ask(method, urlsplit(url), definition, ground)
                location = answer.headers.get("location", "")
                if not (answer.code in _REDIRECTS and location and definition.follow_redirects):
                    return _judge(method, definition.target, answer)
                following = urljoin(url, location)
                if _origin(urlsplit(following)) != _origin(urlsplit(url)):
                    return failed(f"HTTP {method} {definition.target}: redirect to another host is not followed")
                url = following
                if answer.code == HTTPStatus.SEE_OTHER:
                    method = "GET"
            return failed(f"HTTP {method} {definition.target}: more than {limits.PROBE_REDIRECTS_MAX} redirects")
    except FAILURES as error:
        return failed(f'{method.title()} "{definition.target}": {why(error)}')


def _origin(url: SplitResult) -> tuple[str, Target]:
    if url.scheme not in {"http", "https"}:
        raise ValueError(f"unsupported protocol scheme {url.scheme!r}")
    if not url.hostname:
        raise ValueError("no Host in request URL")
    return url.scheme, Target(url.hostname, url.port or (443 if url.scheme == "https" else 80))


def _judge(method: str, url: str, answer: Answer) -> Finding:
    body = answer.body.decode("utf-8", "replace")
    output = f"HTTP {method} {url}: {answer.code} {answer.reason} Output: {body}"
    if HTTPStatus.OK <= answer.code < HTTPStatus.MULTIPLE_CHOICES:
        return Finding(CheckStatus.PASSING, output)
    if answer.code == HTTPStatus.TOO_MANY_REQUESTS:
        return Finding(CheckStatus.WARNING, output)
    return Finding(CheckStatus.CRITICAL, output)


async def _ask(method: str, url: SplitResult, definition: CheckDefinition, ground: Ground) -> Answer:
    scheme, target = _origin(url)
    tls = Tls(not definition.tls_skip_verify, definition.tls_server_name) if scheme == "https" else None
    async with connected(target, ground, tls) as (reader, writer):
        writer.write(_request(method, url, definition))
        await writer.drain()
        return await _answer(reader, method)


def _request(method: str, url: SplitResult, definition: CheckDefinition) -> bytes:
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    body = definition.body.encode("utf-8", "replace")
    named = {name.lower(): name for name in definition.headers}
    host = definition.headers[named["host"]][0] if "host" in named and definition.headers[named["host"]] else ""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or url.netloc.rpartition('@')[2]}", "Connection: close"]
    if "user-agent" not in named:
        lines.append("User-Agent: Consul Health Check")
    if "accept" not in named:
        lines.append("Accept: text/plain, text/*, */*")
    for name, values in definition.headers.items():
        if name.lower() not in _OWN:
            lines += [f"{name}: {value}" for value in values]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    if not method or not set(method) <= _TOKEN or any(_breaks(line) for line in lines):
        raise ValueError("the request holds characters that HTTP does not allow")
    return "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n" + body


def _breaks(line: str) -> bool:
    """Whether a line would end early and begin another: a check's header must not smuggle a second request."""
    return any((character < " " and character != "\t") or character == "\x7f" for character in line)


async def _answer(reader: asyncio.StreamReader, method: str) -> Answer:
    for _ in range(10):  # Interim answers (1xx) come before the real one.
        code, reason, headers = _head(await reader.readuntil(b"\r\n\r\n"))
        if code >= HTTPStatus.OK:
            break
    if method == "HEAD" or code in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}:
        return Answer(code, reason, headers, b"")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = await _chunks(reader)
    else:
        length = headers.get("content-length", "")
        size = int(length) if length.isdigit() and len(length) < 19 else limits.CHECK_OUTPUT_SIZE_MAX
        body = await _read(reader, min(size, limits.CHECK_OUTPUT_SIZE_MAX))
    return Answer(code, reason, headers, body)


def _head(blob: bytes) -> tuple[int, str, dict[str, str]]:
    if len(blob) > limits.PROBE_HEAD_SIZE_MAX:
        raise ValueError("the answer's header is too large")
    first, *lines = blob.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    code, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not code.isdigit() or len(code) != 3:
        raise ValueError(f"malformed HTTP response {first[:64]!r}")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(code), reason, headers


async def _read(reader: asyncio.StreamReader, size: int) -> bytes:
    """Up to ``size`` bytes; fewer when the peer ends before."""
    body = b""
    while len(body) < size:
        more = await reader.read(size - len(body))
        if not more:
            break
        body += more
    return body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while len(body) < limits.CHECK_OUTPUT_SIZE_MAX:
        line = (await reader.readuntil(b"\r\n"))[:16].partition(b";")[0].strip()
        size = int(line, 16)
        if size <= 0:
            break
        body += await _read(reader, min(size, limits.CHECK_OUTPUT_SIZE_MAX - len(body)))
        if len(body) < limits.CHECK_OUTPUT_SIZE_MAX:
            await reader.readexactly(2)
    return body
