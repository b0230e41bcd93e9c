"""Celery workers that are found, counted, and drained when they stop; needs ``celery``.

::

    app = Celery("mail", broker="…")
    townhall.celery.register(app, "http://127.0.0.1:7500", service="mail")

Only a worker (``celery -A mail worker``) is registered; programs that merely send tasks are not.
"""

from townhall.client.celery_workers import Registration, register

__all__ = ["Registration", "register"]
