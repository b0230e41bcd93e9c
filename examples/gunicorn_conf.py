"""Gunicorn registers the service once, whatever number of workers serves it.

``REGISTRY=http://127.0.0.1:7500 PORT=8000 gunicorn --config examples/gunicorn_conf.py --chdir examples flask_service:app``
"""

import os

import townhall

bind = "127.0.0.1:" + os.environ.get("PORT", "8000")
workers = 2
threads = 4
control_socket_disable = True

registration = townhall.gunicorn.Registration(
    os.environ.get("REGISTRY", "http://127.0.0.1:7500"),
    service=os.environ.get("SERVICE", "hello-flask"),
    tags=["v1"],
    ttl=10,
)
when_ready = registration.when_ready
post_worker_init = registration.post_worker_init
on_exit = registration.on_exit
