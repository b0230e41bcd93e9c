"""httpx clients that find and call services by name; needs ``townhall[httpx]``.

::

    consumer = townhall.Consumer("http://127.0.0.1:7500")
    async with httpx.AsyncClient(transport=townhall.httpx.Transport(consumer)) as client:
        answer = await client.get("http://user/users/1")
"""

from townhall.client.extras import needs

with needs("httpx", extra="httpx"):
    from townhall.client.httpx_transport import BlockingTransport, Transport, TransportOptions

__all__ = ["BlockingTransport", "Transport", "TransportOptions"]
