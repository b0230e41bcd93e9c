"""ASGI applications (FastAPI, Starlette, Django, …) that are found, and stop without losing a request.

::

    app = FastAPI()
    app = townhall.asgi.Registered(app, "http://127.0.0.1:7500", service="user", port=8000)

Served by ``uvicorn main:app --port 8000``. Needs no package beside the server's own.
"""

from townhall.client.asgi_app import App, Registered, Registration

__all__ = ["App", "Registered", "Registration"]
