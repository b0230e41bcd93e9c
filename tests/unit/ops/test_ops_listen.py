from __future__ import annotations

import pytest

from townhall.model.errors import InvalidField
from townhall.ops.listen import Endpoint, endpoint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:7500", Endpoint("127.0.0.1", 7500)),
        ("8500", Endpoint("127.0.0.1", 8500)),
        ("0", Endpoint("127.0.0.1", 0)),
        ("", Endpoint("127.0.0.1", 99)),
        ("on", Endpoint("127.0.0.1", 99)),
        ("TRUE", Endpoint("127.0.0.1", 99)),
        ("off", None),
        ("no", None),
        ("[::1]:7500", Endpoint("::1", 7500)),
        ("localhost:1", Endpoint("localhost", 1)),
        (":65535", Endpoint("0.0.0.0", 65535)),
    ],
)
def test_forms(text, expected):
    assert endpoint(text, usual_port=99, field="native") == expected


@pytest.mark.parametrize(
    "text", ["x", "127.0.0.1", "127.0.0.1:", "1:65536", "::1:7500", "a:b", "-1", "1.5", "\u0661", "127.0.0.1:7500/"]
)
def test_refused(text):
    with pytest.raises(InvalidField) as caught:
        endpoint(text, usual_port=99, field="consul")
    assert caught.value.fields["field"] == "consul"
    assert "HOST:PORT" in caught.value.advice


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("example", False),
    ],
)
def test_loopback(host, loopback):
    assert Endpoint(host, 1).loopback is loopback


def test_text_form_is_readable_back():
    for where in (Endpoint("::1", 5), Endpoint("127.0.0.1", 5)):
        assert endpoint(str(where), usual_port=0, field="native") == where
