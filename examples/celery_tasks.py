"""Celery workers that are found through Townhall, counted, and drained when they stop. Needs celery.

``celery --workdir examples -A celery_tasks worker -n first@%h``; one more with ``-n second@%h``. Environment: ``REGISTRY``
(http://127.0.0.1:7500), and ``BROKER``, a directory that serves as broker: fine for a trial on one machine.
"""

import os
import time
from pathlib import Path

from celery import Celery

import townhall

broker = Path(os.environ.get("BROKER", "/tmp/townhall-celery"))  # noqa: S108 - a trial
for name in ("messages", "control"):
    (broker / name).mkdir(parents=True, exist_ok=True)

app = Celery("hello", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": broker / "messages",
    "data_folder_out": broker / "messages",
    "control_folder": broker / "control",
    "polling_interval": 0.1,
}
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
townhall.celery.register(app, os.environ.get("REGISTRY", "http://127.0.0.1:7500"), service="hello-celery", ttl=10)


@app.task
def note(path: str, seconds: float) -> None:
    """Takes its time and leaves a file behind; a warm shutdown waits for it."""
    time.sleep(seconds)
    Path(path).write_text(str(os.getpid()))
