"""The operator's listener and the metrics."""

from __future__ import annotations

import asyncio
import json
import re

from gateway_support import Instance, Stand, get, run

from townhall.gateway.counters import Counters
from townhall.gateway.metrics import metrics
from townhall.model.limits import PROXY_INTERIM_MAX


def test_pages_for_operators() -> None:
    async def main() -> None:
        async with Stand('[[route]]\nservice = "static://{a}"\npath = "/a"\n', a=Instance()) as stand:
            assert (await stand.ask(get("/a"))).endswith(b"hello")
            _, port = await stand.gateway.listen_admin("127.0.0.1", 0, lambda: ["more 1"])

            async def page(path: str, method: str = "GET") -> tuple[int, bytes]:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(get(path, method=method))
                raw = await reader.read()
                writer.close()
                return int(raw[9:12]), raw.partition(b"\r\n\r\n")[2]

            status, text = await page("/metrics")
            assert status == 200
            assert b'townhall_gateway_requests_total{route="/a",status="2xx"} 1\n' in text
            assert b'townhall_gateway_request_seconds_count{route="/a"} 1\n' in text
            assert b'townhall_gateway_service_instances{service="static://127.0.0.1:' in text
            assert text.endswith(b"more 1\n")
            for line in text.decode().splitlines():
                assert re.fullmatch(r"#.*|more 1|townhall_gateway_[a-z_]+(\{.*\})? [0-9.e+-]+", line), line
            assert await page("/metrics", "HEAD") == (200, b"")
            assert json.loads((await page("/health"))[1])["status"] == "ok"
            assert json.loads((await page("/routes"))[1])[0]["path"] == "/a"
            assert (await page("/"))[0] == 404
            assert (await page("/health", "POST"))[0] == 405
            assert (await page("/a b"))[0] == 400
            stand.gateway.plane.stopping = True
            assert (await page("/health"))[0] == 503

    run(main())


def test_metrics_of_nothing() -> None:
    assert "townhall_gateway_open 3" in list(metrics(Counters(), [], open_clients=3))


def test_interim_answers_are_bounded() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    end = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

    async def main() -> None:
        async with Stand('[[route]]\nservice = "static://{a}"\n', a=Instance(early * PROXY_INTERIM_MAX + end)) as stand:
            answer = await stand.raw(get("/", "Connection: close"))
            assert answer.count(b" 103 ") == PROXY_INTERIM_MAX
            assert answer.endswith(b"hello")
        async with Stand('[[route]]\nservice = "static://{a}"\nretries = 0\n', a=Instance(early * 99 + end)) as stand:
            answer = await stand.raw(get("/", "Connection: close"))
            assert b'"code":"bad_answer"' in answer

    run(main())
