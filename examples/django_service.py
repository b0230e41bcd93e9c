"""A Django service in one file, served by gunicorn and found through Townhall. Needs django and gunicorn.

``SERVICE=hello-django gunicorn --config examples/gunicorn_conf.py --chdir examples django_service:app``
"""

import os
import time
from collections.abc import Iterator

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path

# In a project of yours this is settings.py; a POST without a form needs no token of one.
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, MIDDLEWARE=[])


def hello(request: HttpRequest) -> HttpResponseBase:
    """Answers at once."""
    return JsonResponse({"port": os.environ.get("PORT", "8000")})


def slow(request: HttpRequest) -> HttpResponseBase:
    """Takes its time; a stop waits for it."""
    seconds = float(request.GET["seconds"])

    def pieces() -> Iterator[bytes]:
        yield b"begin"
        time.sleep(seconds)
        yield b"end"

    return StreamingHttpResponse(pieces())


urlpatterns = [path("", hello), path("slow", slow)]
app = get_wsgi_application()
