from __future__ import annotations

import pytest

from townhall.model import limits
from townhall.ops.config import BadConfig, data_directory, load, read_file
from townhall.ops.faces import built_faces
from townhall.ops.listen import Endpoint


def problems(*sources, **keywords) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        load(*sources, **keywords)
    return caught.value.problems


# (options, environment, file) -> (value of log.level, source)
PRECEDENCE = [
    ({}, {}, {}, "info", "default"),
    ({}, {}, {"log": {"level": "debug"}}, "debug", "t.toml: log.level"),
    ({}, {"TOWNHALL_LOG_LEVEL": "error"}, {"log": {"level": "debug"}}, "error", "environment TOWNHALL_LOG_LEVEL"),
    (
        {"log.level": "warning"},
        {"TOWNHALL_LOG_LEVEL": "error"},
        {"log": {"level": "debug"}},
        "warning",
        "option --log-level",
    ),
    ({"log.level": "warning"}, {}, {}, "warning", "option --log-level"),
    ({}, {"TOWNHALL_LOG_LEVEL": ""}, {"log": {"level": "debug"}}, "debug", "t.toml: log.level"),
]


@pytest.mark.parametrize(("options", "environ", "file", "level", "source"), PRECEDENCE)
def test_precedence(options, environ, file, level, source):
    found = load(options, environ, file, path="t.toml")
    assert found.settings.log.level == level
    assert found.sources["log.level"].text == source


@pytest.mark.parametrize(
    ("options", "environ", "file", "expected"),
    [
        ({}, {}, {}, Endpoint("127.0.0.1", 7500)),
        ({"native": "on"}, {}, {}, Endpoint("127.0.0.1", 7500)),
        ({}, {"TOWNHALL_NATIVE": "[::1]:0"}, {"native": 9}, Endpoint("::1", 0)),
        ({}, {}, {"native": 9}, Endpoint("127.0.0.1", 9)),
        ({}, {}, {"native": True}, Endpoint("127.0.0.1", 7500)),
        ({}, {}, {"native": "127.0.0.2:80"}, Endpoint("127.0.0.2", 80)),
    ],
)
def test_native_listener(options, environ, file, expected):
    assert load(options, environ, file).listeners["native"] == expected


@pytest.mark.parametrize(
    ("options", "environ", "file", "needle"),
    [
        ({"zookeeper": "on"}, {}, {}, "option --zookeeper: the zookeeper face is not in this version"),
        ({}, {"TOWNHALL_XDS": "0"}, {}, "environment TOWNHALL_XDS: the xds face is not in this version"),
        ({}, {}, {"zookeeper": 2379}, "t.toml: zookeeper: the zookeeper face is not in this version"),
        ({"native": "off"}, {}, {}, "option --native: the native face is always on"),
        ({"native": "12345678"}, {}, {}, "option --native: '12345678'"),
        ({"log.level": "loud"}, {}, {}, "'loud' is none of debug, error, info, warning"),
        ({}, {"TOWNHALL_DEV": "maybe"}, {}, "environment TOWNHALL_DEV: 'maybe' is neither true nor false"),
        ({}, {"TOWNHALL_HTTP_CONNECTIONS_MAX": "many"}, {}, "'many' is not a number"),
        ({}, {"TOWNHALL_FLOOR_REGISTRY": "nan"}, {}, "TOWNHALL_FLOOR_REGISTRY"),
        ({}, {}, {"floor": {"registry": 1.5}}, "t.toml: floor.registry: 1.5 is not between 0 and 1"),
        ({}, {}, {"http": {"connections_max": 0}}, "t.toml: http.connections_max: 0 is not between 1 and 1000000"),
        ({}, {}, {"http": {"connections_max": True}}, "expected int, got bool"),
        ({"capacity.space_size_max": "7"}, {}, {}, "option --capacity-space-size-max: '7' is less than 65536"),
        ({}, {}, {"log": {"level": 7}}, "7 is none of debug"),
        ({}, {}, {"name": 7}, "t.toml: name: expected str, got int"),
        ({}, {}, {"nativ": 1}, "unknown key 'nativ'; did you mean 'native'?"),
        ({}, {}, {"log": {"levl": "x"}}, "unknown key 'log.levl'; did you mean 'log.level'?"),
        ({}, {}, {"http": {"level": "x"}}, "unknown key 'http.level'; did you mean"),
        ({}, {}, {"zzz": {}}, "unknown key 'zzz'; see docs/configuration.md"),
        ({}, {}, {"log": "debug"}, "log is a table, write [log]"),
        ({}, {}, {"listen": {"native": 1}}, "unknown key 'listen'"),
        ({"dev": True, "data": "/x"}, {}, {}, "exclude each other"),
        ({"lease.ttl_default_ms": "500ms"}, {}, {}, "lease.ttl_default_ms is below lease.ttl_min_ms"),
        ({"lease.ttl_default_ms": "5 weeks"}, {}, {}, "is not a duration"),
        ({"tls.key": "k.pem"}, {}, {}, "tls.key is of no use without tls.cert"),
    ],
)
def test_refused(options, environ, file, needle):
    assert any(needle in problem for problem in problems(options, environ, file, path="t.toml"))


def test_all_problems_are_told_at_once():
    found = problems({"zookeeper": "on"}, {"TOWNHALL_LOG_LEVEL": "loud"}, {"nativ": 1}, path="t.toml")
    assert len(found) == 3


@pytest.mark.parametrize(
    ("text", "expected"), [("90000", 90_000), ("90s", 90_000), ("1.5m", 90_000), ("1h", 3_600_000), ("250ms", 250)]
)
def test_durations(text, expected):
    assert load({"http.idle_timeout_ms": text}, {}).settings.http.idle_timeout_ms == expected
    assert load({}, {}, {"http": {"idle_timeout_ms": text}}).settings.http.idle_timeout_ms == expected


@pytest.mark.parametrize("options", [{"all": True}, {"dev": True}])
def test_all_and_dev_turn_on_what_is_there(options):
    assert list(load(options, {}).listeners) == list(built_faces())


def test_a_face_that_is_asked_for_by_name_is_an_error_even_with_all():
    assert problems({"all": True, "zookeeper": "on"}, {})
    assert load({"all": True, "consul": "off"}, {}).listeners


def test_dev_relaxes_the_shortest_ttl_unless_it_was_said():
    assert load({"dev": True}, {}).settings.lease.ttl_min_ms == limits.LEASE_TTL_DEV_MIN_MS
    assert load({"dev": True}, {"TOWNHALL_LEASE_TTL_MIN_MS": "2s"}).settings.lease.ttl_min_ms == 2_000
    assert load({}, {}).settings.lease.ttl_min_ms == limits.LEASE_TTL_MIN_MS


@pytest.mark.parametrize(
    ("options", "environ", "file", "dev", "data"),
    [
        ({"dev": True}, {}, {"data": "/x"}, True, ""),
        ({"data": "/x"}, {"TOWNHALL_DEV": "1"}, {}, False, "/x"),
        ({"dev": False}, {"TOWNHALL_DATA": "/x"}, {"dev": True}, False, "/x"),
    ],
)
def test_the_stronger_of_dev_and_data_wins(options, environ, file, dev, data):
    node = load(options, environ, file).settings.node
    assert (node.dev, node.data) == (dev, data)


def test_data_directory():
    default = load({}, {}).settings
    assert data_directory(default, {"XDG_STATE_HOME": "/s", "HOME": "/h"}) == "/s/townhall"
    assert data_directory(default, {"HOME": "/h"}) == "/h/.local/state/townhall"
    assert data_directory(load({"data": "/x/../d"}, {}).settings, {}) == "/d"


def test_only_near_misses_in_the_environment_are_told():
    warnings = load(
        {}, {"TOWNHALL_LOG_LEVLE": "x", "TOWNHALL_SERVICE_HOST": "127.0.0.1", "TOWNHALL_TOKEN": "t"}
    ).warnings
    assert len(warnings) == 1
    assert "TOWNHALL_LOG_LEVLE" in warnings[0]
    assert "TOWNHALL_LOG_LEVEL?" in warnings[0]


def test_read_file(tmp_path):
    good = tmp_path / "good.toml"
    good.write_text('native = 0\n[log]\nlevel = "debug"\n')
    assert read_file(str(good)) == {"native": 0, "log": {"level": "debug"}}
    for content in (b"native =", b"\xff\xfe"):
        bad = tmp_path / "bad.toml"
        bad.write_bytes(content)
        with pytest.raises(BadConfig, match="is not TOML"):
            read_file(str(bad))
    with pytest.raises(BadConfig, match="No such file"):
        read_file(str(tmp_path / "absent"))
