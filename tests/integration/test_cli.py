"""Every client command against a real registry, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from urllib.request import urlopen

import pytest

from townhall_process import DEADLINE_S, TownhallProcess, background, townhall, until


@pytest.fixture
def run(registry):
    """Run a command against the shared registry; returns what subprocess.run does."""

    def command(*arguments: str, **keywords) -> subprocess.CompletedProcess[str]:
        return townhall(*arguments, server=registry.url, **keywords)

    return command


@pytest.fixture
def good(run):
    """The same, for commands that must succeed; returns what they printed."""

    def command(*arguments: str, **keywords) -> str:
        done = run(*arguments, **keywords)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return command


def instances(run, service: str, *options: str) -> list[dict]:
    return json.loads(run("instances", service, "--json", *options).stdout)


def test_register_once_and_deregister(run, good):
    out = good(
        "register", "cli-once", "127.0.0.1:8080", "--once", "--id", "one", "--tag", "v2", "--tag", "b", "--meta", "zone=b",
        "--weight", "2.5", "--zone", "z1", "--port", "admin=9090",
    )  # fmt: skip
    assert "registered for good" in out
    (found,) = instances(run, "cli-once")
    assert {
        "id",
        "service",
        "namespace",
        "address",
        "port",
        "weight",
        "tags",
        "metadata",
        "verdict",
        "revision",
    } <= found.keys()
    assert (found["id"], found["address"], found["port"], found["verdict"]) == ("one", "127.0.0.1", 8080, "up")
    assert (found["tags"], found["metadata"], found["weight"], found["zone"]) == (["v2", "b"], {"zone": "b"}, 2.5, "z1")
    assert (found["ports"], found["ephemeral"]) == ({"admin": 9090}, False)
    assert "one: deregistered" in good("deregister", "cli-once", "one")
    assert instances(run, "cli-once") == []
    assert run("deregister", "cli-once", "one").returncode == 4


def test_deregister_by_address(run, good):
    good("register", "cli-address", "127.0.0.1:8081", "--once", "--id", "by-address")
    good("deregister", "cli-address", "127.0.0.1:8081")
    assert instances(run, "cli-address") == []


def test_deregister_with_a_stale_incarnation_is_refused(run, good):
    good("register", "cli-fenced", "127.0.0.1:8081", "--once", "--id", "x")
    done = run("deregister", "cli-fenced", "x", "--incarnation", "999999999")
    assert done.returncode == 1
    assert len(instances(run, "cli-fenced")) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_register_stays_renews_and_deregisters_on_a_signal(registry, run, number):
    name = f"cli-stay-{number}"
    with background("register", name, "127.0.0.1:8080", "--ttl", "3s", "--tag", "v2", server=registry.url) as process:
        assert process.stdout is not None
        assert "renewing" in process.stdout.readline()
        (first,) = instances(run, name)

        def remaining() -> int:
            with urlopen(f"{registry.url}/api/v1/leases/{first['lease']}", timeout=DEADLINE_S) as answer:
                return json.load(answer)["remaining_ms"]

        for _ in range(2):
            low = remaining()

            def renewed() -> bool:
                nonlocal low
                before, low = low, remaining()
                return low > before

            until(renewed, what="a renewal")
        (later,) = instances(run, name)
        assert later["incarnation"] == first["incarnation"]
        process.send_signal(number)
        assert process.wait(120) == 0
        assert "deregistered" in process.stdout.read()
    assert instances(run, name) == []


def test_a_killed_register_is_noticed(registry, run):
    with background(
        "register", "cli-killed", "127.0.0.1:8080", "--ttl", "20s", "--json", server=registry.url
    ) as process:
        until(lambda: instances(run, "cli-killed", "--healthy"), what="the registration")
        process.kill()
        found = until(
            lambda: [one for one in instances(run, "cli-killed") if one["verdict"] == "suspect"], what="the death"
        )
        assert found[0]["reason"]


def test_services_table_and_json(run, good):
    good("register", "cli-list-a", "127.0.0.1:1", "--once", "--tag", "t1")
    good("register", "cli-list-b", "127.0.0.1:1", "--once")
    rows = json.loads(good("services", "cli-list-", "--json"))
    assert [row["name"] for row in rows] == ["cli-list-a", "cli-list-b"]
    assert rows[0]["callable"] == 1
    table = good("services", "cli-list-").splitlines()
    assert table[0].split() == ["NAME", "CALLABLE", "INSTANCES", "TAGS", "REVISION"]
    assert table[1].split()[:4] == ["cli-list-a", "1", "1", "t1"]


def test_instances_filters_table_and_unknown_service(run, good):
    for number, zone in enumerate("aab"):
        good(
            "register",
            "cli-filter",
            f"127.0.0.1:{8000 + number}",
            "--once",
            "--id",
            f"i{number}",
            "--zone",
            zone,
            "--tag",
            f"t{number}",
            "--meta",
            f"n={number}",
        )
    assert [one["id"] for one in instances(run, "cli-filter", "--zone", "a")] == ["i0", "i1"]
    assert [one["id"] for one in instances(run, "cli-filter", "--tag", "t2")] == ["i2"]
    assert [one["id"] for one in instances(run, "cli-filter", "--meta", "n=1")] == ["i1"]
    assert [one["id"] for one in instances(run, "cli-filter", "--filter", 'zone == "b" and "t2" in tags')] == ["i2"]
    assert run("instances", "cli-filter", "--filter", "zone ==").returncode == 1
    table = good("instances", "cli-filter").splitlines()
    assert table[0].split()[:3] == ["ID", "ADDRESS", "VERDICT"]
    assert len(table) == 4
    done = run("instances", "cli-nobody", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (4, [])
    assert "no service cli-nobody" in done.stderr


def test_namespaces_are_apart(registry, run, good):
    good("register", "cli-space", "127.0.0.1:1", "--once", "--namespace", "blue")
    assert run("instances", "cli-space").returncode == 4
    assert len(instances(run, "cli-space", "--namespace", "blue")) == 1
    assert len(instances(run, "blue/default/cli-space")) == 1
    listed = townhall("services", "--json", server=registry.url, env={"TOWNHALL_NAMESPACE": "blue"})
    assert [row["name"] for row in json.loads(listed.stdout)] == ["cli-space"]


def test_watch_prints_changes_as_they_come(registry, run, good):
    with background("watch", "cli-watch", "--json", server=registry.url) as process:
        lines: list[dict] = []
        assert process.stdout is not None
        reader = threading.Thread(
            target=lambda out: lines.extend(map(json.loads, out)), args=(process.stdout,), daemon=True
        )
        reader.start()
        until(lambda: any(line["event"] == "ready" for line in lines), what="the ready event")
        good("register", "cli-watch", "127.0.0.1:1", "--once", "--id", "w1")
        until(
            lambda: any(one["id"] == "w1" for line in lines for one in line.get("changed", ())), what="the new instance"
        )
        good("deregister", "cli-watch", "w1")
        until(lambda: any("w1" in line.get("removed", ()) for line in lines), what="the removal")
        process.kill()
        reader.join(120)


def test_watch_for_people(registry, run, good):
    good("register", "cli-watch-text", "127.0.0.1:1", "--once", "--id", "w1")
    with background("watch", "cli-watch-text", server=registry.url) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "cli-watch-text w1 127.0.0.1:1 up" in line


def test_subscribers(registry, run, good):
    good("register", "cli-subscribers", "127.0.0.1:1", "--once")
    with background("watch", "cli-subscribers", server=registry.url):
        found = until(
            lambda: json.loads(good("subscribers", "cli-subscribers", "--json"))["subscribers"], what="the subscriber"
        )
        assert found[0]["name"] == "townhall watch"
        assert "townhall watch" in good("subscribers", "cli-subscribers")


def test_drain(run, good):
    good("register", "cli-drain", "127.0.0.1:1", "--once", "--id", "d1")
    assert "complete" in good("drain", "cli-drain", "d1", "--deadline", "5s")
    (found,) = instances(run, "cli-drain")
    assert found["verdict"] == "draining"
    assert instances(run, "cli-drain", "--healthy") == []
    assert json.loads(good("drain", "cli-drain", "d1", "--no-wait", "--json"))["id"] == "d1"
    assert json.loads(good("drain", "cli-drain", "d1", "--cancel", "--json"))["state"] == "none"
    assert instances(run, "cli-drain")[0]["verdict"] == "up"
    assert run("drain", "cli-drain", "nobody").returncode == 4


def test_kv(run, good):
    assert "revision" in good("kv", "put", "cli/a", "one")
    assert good("kv", "get", "cli/a") == "one"
    first = json.loads(good("kv", "get", "cli/a", "--json"))
    good("kv", "put", "cli/a", stdin="from input\n")
    assert good("kv", "get", "cli/a") == "from input\n"
    assert good("kv", "get", "cli/a", "--revision", str(first["mod_revision"])) == "one"
    assert run("kv", "put", "cli/a", "x", "--cas", str(first["mod_revision"])).returncode == 1
    assert run("kv", "put", "cli/a", "x", "--create").returncode == 1
    good("kv", "put", "cli/b", "two", "--create")
    assert [one["key"] for one in json.loads(good("kv", "list", "cli/", "--json"))] == ["cli/a", "cli/b"]
    assert good("kv", "list", "cli/", "--keys-only") == "cli/a\ncli/b\n"
    assert good("kv", "list", "cli/b").splitlines()[1].split()[:2] == ["cli/b", "two"]
    limited = run("kv", "list", "cli/", "--limit", "1", "--json")
    assert len(json.loads(limited.stdout)) == 1
    assert "1 more" in limited.stderr
    good("kv", "del", "cli/a")
    assert run("kv", "get", "cli/a").returncode == 4
    assert run("kv", "del", "cli/a").returncode == 4
    assert json.loads(good("kv", "del", "cli/", "--prefix", "--json"))["deleted"] == 1
    assert good("kv", "--json", "list", "cli/") == "[]\n"


def test_kv_watch(registry, good):
    with background("kv", "watch", "cli-watched/", "--json", server=registry.url) as process:
        lines: list[dict] = []
        assert process.stdout is not None
        reader = threading.Thread(
            target=lambda out: lines.extend(map(json.loads, out)), args=(process.stdout,), daemon=True
        )
        reader.start()

        def put_until_seen() -> bool:
            good("kv", "put", "cli-watched/k", "v")
            return any(line["event"] == "put" and line["key"] == "cli-watched/k" for line in lines)

        until(put_until_seen, what="the put")
        good("kv", "del", "cli-watched/k")
        until(lambda: any(line["event"] == "delete" for line in lines), what="the delete")
        process.kill()
        reader.join(120)


def test_lock_gives_a_growing_fence_and_the_exit_code(run, good):
    program = "import os, sys; print(os.environ['TOWNHALL_FENCE'], os.environ['TOWNHALL_LOCK']); sys.exit(7)"
    first = run("lock", "cli-lock", "--", sys.executable, "-c", program)
    second = run("lock", "cli-lock", "--", sys.executable, "-c", program)
    assert (first.returncode, second.returncode) == (7, 7)
    fence, name = first.stdout.split()
    assert name == "cli-lock"
    assert int(second.stdout.split()[0]) > int(fence)
    assert run("lock", "cli-lock", "--", "/nonexistent/program").returncode == 127
    assert run("lock", "cli-lock", "--", sys.executable, "-c", "import os; os.kill(os.getpid(), 9)").returncode == 137


def test_lock_excludes_and_passes_signals_on(registry, run):
    program = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(5)); print('held', flush=True); time.sleep(60)"
    )
    with background(
        "lock", "cli-lock-held", "--ttl", "15s", "--", sys.executable, "-c", program, server=registry.url
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        refused = run("lock", "cli-lock-held", "--no-wait", "--", "true")
        assert refused.returncode == 1
        assert "is held by" in refused.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 5
    assert run("lock", "cli-lock-held", "--wait", "100s", "--", "true").returncode == 0


def test_lock_lost_with_the_holder_goes_to_the_next(registry, run):
    with background("lock", "cli-lock-died", "--ttl", "2s", "--", "sleep", "60", server=registry.url) as process:
        until(lambda: run("lock", "cli-lock-died", "--no-wait", "--", "true").returncode == 1, what="the lock held")
        os.killpg(process.pid, signal.SIGKILL)
        assert run("lock", "cli-lock-died", "--wait", "100s", "--", "true").returncode == 0


def test_status(run, good):
    found = json.loads(good("status", "--json"))
    assert found["ready"] is True
    assert "instances" in found
    assert any(line.split() == ["ready", "yes"] for line in good("status").splitlines())


def test_unreachable_is_3():
    for arguments in (
        ("status",),
        ("services",),
        ("kv", "get", "x"),
        ("watch", "x"),
        ("register", "x", "127.0.0.1:1"),
        ("lock", "x", "--", "true"),
    ):
        done = (
            townhall(*arguments, "--server", "http://127.0.0.1:9")
            if "--" not in arguments
            else townhall("--server", "http://127.0.0.1:9", *arguments)
        )
        assert done.returncode == 3, (arguments, done.stderr)
        assert done.stderr.startswith("townhall: http://127.0.0.1:9: nothing listens there")
        assert done.stderr.count("\n") == 1


def test_refusals_say_what_to_do(run):
    done = run("register", "cli-refused", "127.0.0.1:1", "--ttl", "1ms")
    assert done.returncode == 1
    assert "ttl" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_error(registry):
    from townhall_process import PLAIN_COMMAND, environment

    script = " ".join(PLAIN_COMMAND) + " status | head -1"
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment({"TOWNHALL_SERVER": registry.url}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_tokens(start):
    process: TownhallProcess = start("--dev")

    def run(*arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
        return townhall(*arguments, server=process.url, env={"TOWNHALL_TOKEN": token})

    root = json.loads(run("token", "bootstrap", "--json").stdout)["secret"]
    assert run("token", "bootstrap", token=root).returncode == 1
    refused = run("register", "web", "127.0.0.1:1", "--once")
    assert refused.returncode == 1
    assert "TOWNHALL_TOKEN" in refused.stderr
    assert run("token", "policy", "web", "--rule", "service:write:default/default/web*", token=root).returncode == 0
    made = run("token", "create", "--policy", "web", "--description", "for web", "--ttl", "1h", token=root)
    assert "shown this once" in made.stderr
    lines = dict(line.split(None, 1) for line in made.stdout.splitlines())
    secret, token_id = lines["secret:"].strip(), lines["id:"].strip()
    assert run("register", "web-1", "127.0.0.1:1", "--once", token=secret).returncode == 0
    assert run("register", "other", "127.0.0.1:1", "--once", token=secret).returncode == 1
    assert "for web" in run("token", "list", token=root).stdout
    assert "service:write:default/default/web*" in run("token", "policies", token=root).stdout
    assert run("token", "revoke", token_id, token=root).returncode == 0
    assert run("register", "web-2", "127.0.0.1:1", "--once", token=secret).returncode == 1
    assert run("token", "revoke", token_id, token=root).returncode == 4
    assert run("token", "delete-policy", "web", token=root).returncode == 0


def test_completion_and_version(run):
    assert "complete" in run("completion", "bash").stdout
    assert run("version").stdout.startswith("townhall ")
    assert "version" in json.loads(run("version", "--json").stdout)


def test_a_lock_is_free_one_ttl_after_its_holder_was_killed(registry):
    with background("lock", "killed-holder", "--ttl", "1s", "--", "sleep", "600", server=registry.url) as holder:

        def held() -> bool:
            done = townhall("lock", "killed-holder", "--no-wait", "--", "true", server=registry.url)
            return done.returncode != 0

        until(held, what="the lock is held")
        holder.kill()
        done = townhall(
            "lock", "killed-holder", "--wait", "100s", "--", "sh", "-c", "echo $TOWNHALL_FENCE", server=registry.url
        )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
