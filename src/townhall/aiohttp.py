"""aiohttp clients that call services by name, and servers that are found; needs ``townhall[aiohttp]``.

::

    session = aiohttp.ClientSession(middlewares=[townhall.aiohttp.Balanced(consumer)])
    answer = await session.get("http://user/users/1")

    townhall.aiohttp.register(app, "http://127.0.0.1:7500", service="user", port=8080)
    web.run_app(app, port=8080)
"""

from townhall.client.extras import needs

with needs("aiohttp", extra="aiohttp"):
    from townhall.client.aiohttp_client import Balanced, Resolver, SessionOptions
    from townhall.client.aiohttp_server import Registration, register

__all__ = ["Balanced", "Registration", "Resolver", "SessionOptions", "register"]
