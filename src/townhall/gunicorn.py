"""Applications under gunicorn (Flask, Django, any WSGI or ASGI) that are found, and stop without losing a request.

In ``gunicorn.conf.py``::

    bind = "0.0.0.0:8000"
    registration = townhall.gunicorn.Registration("http://127.0.0.1:7500", service="user")
    when_ready, post_worker_init, on_exit = registration.when_ready, registration.post_worker_init, registration.on_exit
"""

from townhall.client.gunicorn_hooks import Registration

__all__ = ["Registration"]
