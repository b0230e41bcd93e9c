"""``townhall up`` as a process: ready line, signals, durability, and what goes wrong at a start."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import trustme

from townhall_process import TownhallProcess, background, running, townhall, until

SECRET = "a-secret-for-tests-with-more-than-32-characters"


def get(url: str, **keywords) -> bytes:
    with urllib.request.urlopen(url, timeout=120, **keywords) as answer:
        return answer.read()


def names(process: TownhallProcess, service: str) -> set[str]:
    return {one["id"] for one in json.loads(townhall("instances", service, "--json", server=process.url).stdout)}


def test_ready_json_tells_where_it_listens_and_it_answers(start, tmp_path):
    process = start("--data", str(tmp_path / "data"))
    ready = process.ready
    assert ready["ready"] is True
    assert ready["pid"] == process.pid
    assert ready["data"] == str(tmp_path / "data")
    assert ready["version"]
    assert list(ready["listen"]) == ["native"]
    assert get(f"{process.url}/livez") == b"ok\n"
    assert get(f"{process.url}/readyz") == b"ok\n"
    assert process.terminate() == 0


def test_the_ready_line_for_people_says_how_to_try_it(tmp_path):
    import subprocess

    from townhall_process import PLAIN_COMMAND, environment

    child = subprocess.Popen(
        [*PLAIN_COMMAND, "up", "--dev", "--native", "0"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        url = line[line.index("curl ") + 5 :].strip()
        assert json.loads(get(url))["services"] == []
    finally:
        child.terminate()
        out, _ = child.communicate(timeout=120)
    assert out == ""
    assert child.returncode == 0


def test_metrics_have_the_hub_the_listeners_and_the_process(registry):
    text = get(f"{registry.url}/metrics").decode()
    for name in (
        "townhall_instances ",
        'townhall_http_answers_total{face="native",status="2xx"}',
        "process_resident_memory_bytes ",
    ):
        assert name in text, name
    assert get(f"{registry.url}/api/v1/metrics")


def test_what_was_acknowledged_survives_kill_9(start, tmp_path):
    process = start("--data", str(tmp_path / "data"))
    for number in range(5):
        assert (
            townhall(
                "register", "web", f"127.0.0.1:{8000 + number}", "--once", "--id", f"w{number}", server=process.url
            ).returncode
            == 0
        )
    process.kill()
    process.restart()
    assert names(process, "web") == {f"w{number}" for number in range(5)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_stop_releases_parked_requests(start, number):
    process = start("--dev")
    answers: list[int] = []

    def park() -> None:
        with urllib.request.urlopen(
            f"{process.url}/api/v1/services/none/instances?after=0&wait=60s", timeout=120
        ) as answer:
            answers.append(answer.status)

    def parked() -> bool:
        lines = get(f"{process.url}/metrics").decode().splitlines()
        return 'townhall_http_parked{face="native"} 1' in lines

    thread = threading.Thread(target=park)
    thread.start()
    until(parked, what="the parked request")
    process.signal(number)
    assert process.wait() == 0
    thread.join(120)
    assert answers == [200]


def test_a_second_signal_ends_it_at_once(start):
    process = start("--dev", "--http-stop-timeout-ms", "600000")
    with socket.create_connection(
        (process.address.split(":")[0], int(process.address.split(":")[1])), timeout=120
    ) as peer:
        # A request that is announced but never finished keeps the graceful stop waiting.
        peer.sendall(b"PUT /api/v1/kv/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        until(
            lambda: 'townhall_http_open{face="native"} 2' in get(f"{process.url}/metrics").decode(),
            what="the open request",
        )
        process.signal(signal.SIGTERM)
        until(lambda: "stopping" in process.errors, what="the stop")
        process.signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM


def refused(*options: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    done = townhall("up", "--log-level", "error", *options, env=env)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


def test_port_in_use(registry):
    code, error = refused("--dev", "--native", registry.address)
    assert code == 1
    assert f"--native {registry.address}" in error
    assert "in use" in error
    assert "port" in error


def test_locked_data(start, tmp_path):
    start("--data", str(tmp_path / "data"))
    code, error = refused("--native", "0", "--data", str(tmp_path / "data"))
    assert code == 1
    assert f"--data: {tmp_path / 'data'} is in use by process" in error
    assert "choose another data directory" in error


def test_data_that_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("x")
    code, error = refused("--native", "0", "--data", str(tmp_path / "file"))
    assert code == 1
    assert "--data" in error


def test_damaged_data_names_the_position(start, tmp_path):
    data = tmp_path / "data"
    process = start("--data", str(data))
    for number in range(3):
        townhall("register", "web", f"127.0.0.1:{8000 + number}", "--once", server=process.url)
    process.terminate()
    (segment,) = (data / "journal").glob("*.seg")
    content = bytearray(segment.read_bytes())
    where = content.index(b"8000")
    content[where] ^= 0xFF
    segment.write_bytes(content)
    code, error = refused("--native", "0", "--data", str(data))
    assert code == 1
    assert "--data" in error
    assert "position" in error


@pytest.mark.parametrize(
    ("options", "needle"),
    [
        (("--zookeeper",), "the zookeeper face is not in this version"),
        (("--native", "off"), "always on"),
        (("--dev", "--data", "x"), "exclude each other"),
        (("--log-level", "loud"), "none of debug"),
        (("--no-such-option",), "unrecognized"),
        (("--config", "/nonexistent/x.toml"), "No such file"),
    ],
)
def test_bad_options_are_usage_errors(options, needle):
    code, error = refused(*options)
    assert code == 2
    assert needle in error


def test_settings_come_from_file_environment_and_options(tmp_path):
    file = tmp_path / "townhall.toml"
    file.write_text('native = "off"\ndev = true\nname = "from-file"\n[log]\nformat = "json"\nlevel = "error"\n')
    with running("--config", str(file), env={"TOWNHALL_LOG_LEVEL": "info"}) as process:
        assert process.ready["data"] == ""
        assert json.loads(get(f"{process.url}/api/v1/status"))["node"] == "from-file"
        logged = [json.loads(line) for line in process.errors.splitlines()]
        assert any(entry["message"].startswith("ready") for entry in logged)


def test_the_data_directory_defaults_to_xdg_state_home(tmp_path):
    with running(env={"XDG_STATE_HOME": str(tmp_path)}) as process:
        assert process.ready["data"] == str(tmp_path / "townhall")
        assert (tmp_path / "townhall" / "journal").is_dir()


def test_systemd_is_notified(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(120)
        process = TownhallProcess("--dev", env={"NOTIFY_SOCKET": path})
        try:
            process.start()
            assert manager.recv(4096).startswith(b"READY=1")
            process.signal(signal.SIGHUP)
            assert manager.recv(4096).startswith(b"RELOADING=1")
            assert manager.recv(4096) == b"READY=1"
            process.terminate()
            assert manager.recv(4096) == b"STOPPING=1"
        finally:
            process.close()


def certificate(authority: trustme.CA, directory: Path) -> str:
    issued = authority.issue_cert("localhost", "127.0.0.1")
    path = directory / "server.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


def test_tls_and_reload_of_certificates_and_log_level(start, tmp_path):
    first, second = trustme.CA(), trustme.CA()
    file = tmp_path / "townhall.toml"
    file.write_text('[log]\nlevel = "error"\n')
    process = start("--dev", "--config", str(file), "--tls-cert", certificate(first, tmp_path))
    url = f"https://{process.address}/livez"

    def trusts(authority: trustme.CA) -> bool:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        try:
            return get(url, context=context) == b"ok\n"
        except urllib.error.URLError:
            return False

    assert trusts(first)
    assert not trusts(second)
    certificate(second, tmp_path)
    file.write_text('[log]\nlevel = "info"\n')
    process.signal(signal.SIGHUP)
    until(lambda: trusts(second), what="the new certificate")
    until(lambda: "reloaded" in process.errors, what="a line at the new log level")
    (tmp_path / "server.pem").write_text("broken")
    process.signal(signal.SIGHUP)
    until(lambda: "certificates were not reloaded" in process.errors, what="the complaint")
    assert trusts(second)


def test_mtls_refuses_clients_without_a_certificate(start, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    process = start(
        "--dev", "--tls-cert", certificate(authority, tmp_path), "--tls-client-ca", str(tmp_path / "ca.pem")
    )
    url = f"https://{process.address}/livez"
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with pytest.raises((urllib.error.URLError, OSError)):
        get(url, context=context)
    authority.issue_cert("client").configure_cert(context)
    assert get(url, context=context) == b"ok\n"


def test_a_certificate_that_cannot_be_read(tmp_path):
    code, error = refused("--dev", "--native", "0", "--tls-cert", str(tmp_path / "absent.pem"))
    assert code == 1
    assert "--tls-cert" in error


def test_tokens_file_switches_access_on_and_is_reloaded(start, tmp_path):
    file = tmp_path / "tokens.toml"

    def write(secret: str) -> None:
        file.write_text(f'[[token]]\nname = "root"\nsecret = "{secret}"\nmanagement = true\n')
        file.chmod(0o600)

    def allowed(secret: str) -> bool:
        return townhall("kv", "put", "x", "y", server=process.url, env={"TOWNHALL_TOKEN": secret}).returncode == 0

    write(SECRET)
    process = start("--dev", "--access-tokens-file", str(file))
    assert allowed(SECRET)
    assert not allowed("")
    assert not allowed(SECRET + "-new")
    write(SECRET + "-new")
    process.signal(signal.SIGHUP)
    until(lambda: allowed(SECRET + "-new"), what="the new token")
    assert not allowed(SECRET)


def test_backup_and_restore(start, tmp_path):
    process = start("--data", str(tmp_path / "data"))
    townhall("register", "web", "127.0.0.1:1", "--once", "--id", "w1", server=process.url)
    over_http, from_disk = str(tmp_path / "http.backup"), str(tmp_path / "disk.backup")
    for done in (
        townhall("backup", over_http, server=process.url),
        townhall("backup", from_disk, "--data", str(tmp_path / "data")),
    ):
        assert done.returncode == 0, done.stderr
    assert townhall("backup", over_http, server=process.url).returncode == 1
    assert os.stat(over_http).st_mode & 0o077 == 0
    absent = townhall("backup", str(tmp_path / "absent" / "x"), server=process.url)
    assert (absent.returncode, absent.stderr.count("\n")) == (1, 1)
    in_use = townhall("restore", over_http, "--data", str(tmp_path / "data"))
    assert in_use.returncode == 1
    assert names(process, "web") == {"w1"}
    for number, file in enumerate((over_http, from_disk)):
        target = str(tmp_path / f"restored{number}")
        done = townhall("restore", file, "--data", target)
        assert done.returncode == 0, done.stderr
        assert names(start("--data", target), "web") == {"w1"}
    assert not [name for name in os.listdir(tmp_path / "data") if name.startswith(".backup")]


def test_a_registry_in_memory_has_nothing_to_back_up(registry, tmp_path):
    done = townhall("backup", str(tmp_path / "x"), server=registry.url)
    assert done.returncode == 1
    assert "memory" in done.stderr
    assert os.listdir(tmp_path) == []


def test_snapshots_are_written_by_a_process_of_its_own(start, tmp_path):
    process = start("--data", str(tmp_path / "data"), "--journal-snapshot-every-commits", "100")
    for number in range(120):
        request = urllib.request.Request(f"{process.url}/api/v1/kv/k{number}", data=b"v", method="PUT")
        get(request)  # type: ignore[arg-type]
    until(lambda: json.loads(get(f"{process.url}/api/v1/status"))["snapshots_saved"], what="the snapshot")
    process.kill()
    process.restart()
    assert json.loads(get(f"{process.url}/api/v1/status"))["snapshot_position"] >= 100
    assert len(json.loads(townhall("kv", "list", "k", "--json", server=process.url).stdout)) == 120


def test_config_check_and_show(tmp_path):
    file = tmp_path / "townhall.toml"
    file.write_text('native = 0\n[log]\nlevel = "debug"\n')
    assert "good; listens: native on 127.0.0.1:0" in townhall("config", "check", str(file)).stdout
    shown = townhall("config", "show", "--json", "--config", str(file), "--all", env={"TOWNHALL_LOG_FORMAT": "json"})
    content = json.loads(shown.stdout)
    assert content["listen"] == {"native": "127.0.0.1:0"}
    assert content["settings"]["log.level"] == {"value": "debug", "source": f"{file}: log.level"}
    assert content["settings"]["log.format"]["source"] == "environment TOWNHALL_LOG_FORMAT"
    assert content["settings"]["consul"]["value"] == "off"
    assert "log.level" in townhall("config", "show", "--config", str(file)).stdout
    file.write_text('native = 0\nlogg = 1\n[log]\nlevel = "loud"\n')
    bad = townhall("config", "check", str(file))
    assert bad.returncode == 1
    assert bad.stderr.count("\n") == 2


def test_a_watch_goes_on_through_kill_9_and_restart(start, tmp_path):
    process = start("--data", str(tmp_path / "data"))
    with background("watch", "web", "--json", server=process.url) as watching:
        lines: list[dict] = []
        assert watching.stdout is not None
        reader = threading.Thread(
            target=lambda out: lines.extend(map(json.loads, out)), args=(watching.stdout,), daemon=True
        )
        reader.start()
        until(lambda: any(line["event"] == "ready" for line in lines), what="the ready event")
        process.kill()
        process.restart()
        done = townhall("register", "web", "127.0.0.1:1", "--once", "--id", "late", server=process.url)
        assert done.returncode == 0, done.stderr

        def ids() -> set[str]:
            return {one["id"] for line in lines for one in (*line.get("changed", ()), *line.get("instances", ()))}

        until(lambda: "late" in ids(), what="the change after the restart")
        watching.kill()
        reader.join(120)


def test_damage_is_shown_and_what_is_sound_can_be_saved(start, tmp_path):
    data, saved = tmp_path / "data", tmp_path / "saved"
    process = start("--data", str(data))
    for number in (1, 2, 3):
        done = townhall("register", "web", f"127.9.0.{number}:80", "--once", server=process.url)
        assert done.returncode == 0, done.stderr
    process.kill()
    assert townhall("inspect", "--data", str(data)).returncode == 0
    segment = next((data / "journal").iterdir())
    content = bytearray(segment.read_bytes())
    content[content.index(b"127.9.0.2")] ^= 1
    segment.write_bytes(content)

    # The first commit of every registry puts the configured ties in force.
    refused = townhall("up", "--native", "0", "--data", str(data))
    assert refused.returncode == 1
    assert "position 3" in refused.stderr
    assert "townhall salvage" in refused.stderr
    inspected = townhall("inspect", "--data", str(data), "--json")
    assert inspected.returncode == 1
    assert json.loads(inspected.stdout)["damages"][0]["position"] == 3
    assert "DAMAGED at position 3" in townhall("inspect", "--data", str(data)).stdout

    assert townhall("salvage", "--data", str(data), str(saved)).returncode == 0
    again = start("--data", str(saved))
    listed = json.loads(townhall("instances", "web", "--json", server=again.url).stdout)
    assert [one["address"] for one in listed] == ["127.9.0.1"]
