"""A Flask service, served by gunicorn and found through Townhall: see ``gunicorn_conf.py``. Needs flask and gunicorn."""

import os
import time
from collections.abc import Iterator

from flask import Flask, Response, request

app = Flask(__name__)


@app.route("/", methods=["GET", "POST"])
def hello() -> dict[str, str]:
    """Answers at once."""
    return {"port": os.environ.get("PORT", "8000")}


@app.get("/slow")
def slow() -> Response:
    """Takes its time; a stop waits for it."""
    seconds = float(request.args["seconds"])

    def pieces() -> Iterator[bytes]:
        yield b"begin"
        time.sleep(seconds)
        yield b"end"

    return Response(pieces())
