"""Why a worker died: what its crash bundle says of every kind of end, by the daemon and without, over the API and on the
command line; what it never says; and that it is written when it can be, and loses nothing when it can not.
"""
import json
import os
import pathlib
import re
import signal
import stat
import subprocess

import pytest
from pool_host import PATIENCE_S, Host, is_running, listening, wait_until
from test_daemon import DAEMON, Daemon
from test_daemon_cgroups import group, group_of, hierarchy  # noqa: F401
from test_daemon_containers import can_mount
from test_daemon_deaths import tell
from test_daemon_gpu_faults import UUIDS, XID, Driver, Faults

KEPT = 200  # POOL_CRASHES_MAX


@pytest.fixture
def daemon(host):
    with open(host.config, "a", encoding="utf-8") as config:
        config.write('activity = "llama-server"\n')
        for name, script in SCRIPTS.items():
            config.write(f'[backends.{name}]\ncommand = ["/bin/sh", "-c", {json.dumps(script)}]\n'
                         'ready.http = "/health"\ndevice = "cpu"\n')
    host.environment |= {"POOL_WORKERS_HEALTH_INTERVAL_MS": "100", "POOL_WORKERS_ON_UNHEALTHY": "stop"}
    made = Daemon(host)
    made.start()
    yield made
    if made.process.poll() is None:
        made.kill()


SCRIPTS = {
    "broken-text": r"printf 'good\n\377\376 \303( bad\n\033[31mred\000nul\n'; exit 3",
    "out-of-vram": "echo 'cudaMalloc failed: out of memory'; exit 1",
    "no-library": "echo 'e: error while loading shared libraries: libcudart.so.12: cannot open'; exit 127",
}


def why(daemon, worker_id):
    status, answer, _ = daemon.get(f"/v2/workers/{worker_id}/why")
    assert status == 200, answer
    return answer


def wait_gone(daemon, worker_id):
    wait_until(lambda: daemon.worker(worker_id)["status"] == "stopped", what="its end")


def files(host):
    folder = host.state_dir / "crashes"
    return sorted(folder.iterdir()) if folder.exists() else []


# ---- every end ----

def test_each_death_has_its_cause(daemon):
    expected = {}

    def begin(worker_id, cause, words, *arguments, **fields):
        status, answer, _ = daemon.begin(worker_id, *arguments, **fields)
        assert status in (200, 202), answer
        expected[worker_id] = (cause, words)
        return answer

    begin("at-once", "exit_code", "exit code 3 before it was ready", "--exit-at-once", "--exit-code", 3)
    begin("shot-loading", "signal", "SIGSEGV", "--never-ready", "--crash-when", daemon.host.gate("go"), "--crash-signal",
          "SEGV")
    begin("never", "start_timeout", "503", "--never-ready", start_timeout_ms=500)
    begin("deaf", "start_timeout", "did not listen", "--listen-when", daemon.host.gate("never"), start_timeout_ms=500)
    begin("out-of-vram", "out_of_vram", "its last lines say", backend="out-of-vram")
    begin("no-library", "library_missing", "shared library", backend="no-library")
    exits = begin("exits", "exit_code", "exit code 42", wait=True)
    mute = begin("mute", "unhealthy", "500", wait=True)
    pids = {name: begin(f"by-{name}", cause, words, wait=True)["pid"] for name, cause, words in
            (("KILL", "killed", "SIGKILL that the pool did not send"), ("ILL", "illegal_instruction", "SIGILL"),
             ("BUS", "signal", "SIGBUS"))}
    daemon.host.open_gate("go")
    tell(mute, "/fake/health?status=500")
    tell(exits, "/fake/exit?code=42")
    for name, pid in pids.items():
        os.kill(pid, getattr(signal, f"SIG{name}"))
    for worker_id, (cause, words) in expected.items():
        wait_gone(daemon, worker_id)
        answer = why(daemon, worker_id)
        crash = answer["crash"]
        assert (crash["cause"], crash["worker_id"]) == (cause, worker_id), crash["why"]
        assert words in answer["why"] and answer["why"] == crash["why"]
        row = daemon.worker(worker_id)
        assert {k: crash[k] for k in ("stop_reason", "exit_code", "exit_signal", "created_at", "pid", "identity")} == \
            {k: row[k] for k in ("stop_reason", "exit_code", "exit_signal", "created_at", "pid", "identity")}
        assert crash["is_command_known"] and crash["command"]["argv"][0] == row["program"]
        # the records that it names are those that `explain` has
        records = {r["record_id"]: r["kind"] for r in daemon.get(f"/v2/explain/{worker_id}")[1]["explanations"]}
        assert records[crash["explain_id"]] == "end" and records[crash["start_explain_id"]] == "start"
        (candidate,) = crash["candidates"]
        assert candidate["left_bytes"] == candidate["ledger"]["available_bytes"] - crash["required_bytes"]
        # the same on the command line, and in the file
        assert daemon.host.json("worker", "why", worker_id) == answer
        assert json.loads(pathlib.Path(answer["bundle_path"]).read_text()) == crash
    assert len(files(daemon.host)) == len(expected)
    for path in files(daemon.host):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_ends_that_were_asked_for_leave_nothing(daemon):
    daemon.begin("asked", wait=True)
    daemon.begin("forced", "--ignore-sigterm", wait=True)
    daemon.begin("idle", wait=True, idle_timeout_ms=500)
    daemon.begin("alive", wait=True)
    assert daemon.stop("asked")[0] == 200 and daemon.stop("forced", force=True)[0] == 200
    wait_gone(daemon, "idle")
    for worker_id, status, words in (("asked", "stopped", "stopped on request"),
                                     ("forced", "stopped", "ended by signal 9"),
                                     ("idle", "stopped", "no request for 500 ms"), ("alive", "idle", "has not ended")):
        answer = why(daemon, worker_id)
        assert (answer["crash"], answer["bundle_path"]) == (None, None)
        assert answer["status"] in (status, "ready") and words in answer["why"]
        shown = daemon.host.run("worker", "why", worker_id)
        assert shown.returncode == 0 and words in shown.stdout
    assert files(daemon.host) == []
    assert daemon.get("/v2/workers/nobody/why")[1]["error"]["code"] == "WORKER_NOT_FOUND"
    assert daemon.get("/v2/workers/%20/why")[1]["error"]["code"] == "INVALID_REQUEST"
    assert daemon.host.refusal("worker", "why", "nobody")["code"] == "WORKER_NOT_FOUND"
    assert daemon.host.refusal("worker", "why", "a/b")["code"] == "INVALID_REQUEST"


def test_without_a_daemon(host):
    assert host.refusal("worker", "why", "nobody")["code"] == "WORKER_NOT_FOUND"
    done = host.spawn("fails", "--wait", "--", "--never-ready", "--exit-at-once", "--exit-code", "7")
    assert done.returncode == 8 and "rbees-pool worker why fails" in done.stderr
    assert host.json("worker", "why", "fails")["crash"]["cause"] == "exit_code"
    done = host.spawn("stalls", "--wait", "--start-timeout", "500", "--", "--never-ready")
    assert done.returncode == 8, done.stderr
    stalls = host.json("worker", "why", "stalls")["crash"]
    assert stalls["cause"] == "start_timeout" and stalls["progress"]["last_status_code"] == 503
    assert stalls["is_ended_by_us"] is True
    assert host.spawn("w", "--wait").returncode == 0
    assert "has not ended" in host.json("worker", "why", "w")["why"]
    pid = host.json("worker", "show", "w")["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    answer = host.json("worker", "why", "w")  # the command that finds it dead
    assert answer["crash"]["pid"] == pid and answer["crash"]["stop_reason"] == "lost"
    text = host.run("worker", "why", "w").stdout
    assert answer["why"] in text and "environment:" in text and "server is listening" in text
    assert "rbees-pool worker why w" in host.run("worker", "show", "w").stdout
    # a program that is not there leaves one too; the id was never a worker's
    host.config.write_text(host.config.read_text() + '[backends.none]\ncommand = ["/bin/false-name"]\ndevice = "cpu"\n'
                                                     'ready.http = "/health"\n')
    assert host.refusal("worker", "spawn", "none", "--model", f"file:{host.model}", "--id",
                        "none")["code"] == "BACKEND_UNAVAILABLE"


def test_a_program_that_can_not_be_run(host, tmp_path):
    """It is there when it is looked for, and no program of this machine."""
    program = tmp_path / "engine"
    program.write_bytes(b"\x7fELF no program")
    program.chmod(0o755)
    with open(host.config, "a", encoding="utf-8") as config:
        config.write(f'[backends.bad]\ncommand = ["{program}"]\ndevice = "cpu"\nready.http = "/health"\n')
    error = host.refusal("worker", "spawn", "bad", "--model", f"file:{host.model}", "--id", "bad")
    assert error["code"] == "BACKEND_UNAVAILABLE"
    crash = host.json("worker", "why", "bad")["crash"]
    assert crash["cause"] == "not_started" and str(program) in crash["why"] and crash["pid"] is None
    assert crash["start_error_code"] == "BACKEND_UNAVAILABLE"


def test_a_port_that_was_taken(daemon):
    port = daemon.host.ports[0] + 5
    status, answer, _ = daemon.begin("w", "--listen-when", daemon.host.gate("listen"), port=port)
    assert status == 202, answer
    with listening(port):
        daemon.host.open_gate("listen")
        wait_gone(daemon, "w")
        crash = why(daemon, "w")["crash"]
    assert crash["cause"] == "port_taken" and str(port) in crash["why"] and crash["is_port_taken"] is True


def test_the_last_death_of_an_id_that_is_used_again(daemon):
    pids = []
    for _ in range(2):
        status, answer, _ = daemon.begin("w", wait=True)
        assert status == 200, answer
        pids.append(answer["pid"])
        if len(pids) == 2:  # the one before is told of while this one lives
            alive = why(daemon, "w")
            assert "has not ended" in alive["why"] and alive["crash"]["pid"] == pids[0]
        os.kill(pids[-1], signal.SIGKILL)
        wait_gone(daemon, "w")
        assert why(daemon, "w")["crash"]["pid"] == pids[-1]
    assert len(files(daemon.host)) == 2


# ---- logs ----

def test_logs_are_bounded_and_made_safe(daemon):
    status, answer, _ = daemon.begin("flood", "--flood-log", 3_000_000, "--crash-when", daemon.host.gate("crash"))
    assert status == 202, answer
    wait_until(lambda: daemon.host.log("flood").stat().st_size > 3_000_000, what="the flood")
    daemon.host.open_gate("crash")
    assert daemon.begin("text", backend="broken-text")[0] == 202
    for worker_id in ("flood", "text"):
        wait_gone(daemon, worker_id)
    flood = why(daemon, "flood")["crash"]
    assert 1 <= len(flood["log"]) <= 100 and sum(len(line.encode()) + 1 for line in flood["log"]) <= 16384
    assert flood["is_log_cut"] is True
    text = why(daemon, "text")["crash"]
    assert text["log"] == ["good", "�� �( bad", "?[31mred?nul"] and text["is_log_cut"] is False
    for path in files(daemon.host):
        assert path.stat().st_size < 512 * 1024 and "\x1b" not in path.read_text(encoding="utf-8")
    assert "\x1b" not in daemon.host.run("worker", "why", "text").stdout


# ---- secrets ----

SECRETS = {"argument": "s3cret-of-an-argument", "inside": "s3cret-inside-of-one", "variable": "s3cret-of-a-variable",
           "url": "s3cret-of-a-url", "bearer": "s3cret.bearer.token", "backend": "s3cret-of-the-backend"}


def check_no_secrets(text):
    for name, secret in SECRETS.items():
        assert secret not in text, name


@pytest.mark.parametrize("how", ["daemon", "daemon-restarted", "local"])
def test_secrets_are_never_told(host, how):
    with open(host.config, "a", encoding="utf-8") as config:
        config.write(f'env = {{ SOME_API_KEY = "{SECRETS["backend"]}" }}\nallow_env = ["HF_TOKEN", "PLAIN"]\n')
    arguments = ["--print-args", "--print-env", "--api-key", SECRETS["argument"], "--say",
                 f"--hf-token={SECRETS['inside']}", "--say", f"connecting to https://user:{SECRETS['url']}@hub/x", "--say",
                 f"Authorization: Bearer {SECRETS['bearer']}", "--say", f"it is {SECRETS['variable']}."]
    environment = {"HF_TOKEN": SECRETS["variable"], "PLAIN": f"again {SECRETS['argument']}"}
    daemon = Daemon(host)
    if how == "local":
        words = [w for name, value in environment.items() for w in ("--env", f"{name}={value}")]
        done = host.spawn("w", "--wait", *words, "--", *arguments)
        assert done.returncode == 0, done.stderr
        pid = host.json("worker", "show", "w")["pid"]
    else:
        daemon.start()
        status, answer, _ = daemon.begin("w", *arguments, env=environment, wait=True)
        assert status == 200, answer
        pid = answer["pid"]
    try:
        copy = (host.state_dir / "logs" / "w.log.start").read_text()  # lies there while it lives
        assert "[redacted]" in copy
        check_no_secrets(copy)
        if how == "daemon-restarted":
            daemon.kill()
            daemon.start()
        os.kill(pid, signal.SIGKILL)
        if how == "local":
            wait_until(lambda: not is_running(pid))
            answer = host.json("worker", "why", "w")
        else:
            wait_gone(daemon, "w")
            answer = why(daemon, "w")
        for text in (json.dumps(answer), pathlib.Path(answer["bundle_path"]).read_text(),
                     host.run("worker", "why", "w").stdout):
            check_no_secrets(text)
        crash = answer["crash"]
        assert "HF_TOKEN=[redacted]" in crash["command"]["environment"]
        assert "PLAIN=again [redacted]" in crash["command"]["environment"]
        assert "SOME_API_KEY=[redacted]" in crash["command"]["environment"]
        argv = crash["command"]["argv"]
        assert argv[argv.index("--api-key") + 1] == "[redacted]" and "--hf-token=[redacted]" in argv
        assert "it is [redacted]." in crash["log"]
        assert not (host.state_dir / "logs" / "w.log.start").exists()
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.kill()


@pytest.mark.parametrize("how", ["api", "spawn", "wait", "local", "local-wait"])
def test_a_failed_start_tells_no_secrets(host, how):
    """Its last lines are in the error as they are in the bundle; whoever asks for the log gets it as it is."""
    with open(host.config, "a", encoding="utf-8") as config:
        config.write(f'env = {{ SOME_API_KEY = "{SECRETS["backend"]}", PIN = "9182" }}\n')
    arguments = ["--print-args", "--print-env", "--api-key", SECRETS["argument"], "--say", f"it is {SECRETS['argument']}.",
                 "--say", f"Authorization: Bearer {SECRETS['bearer']}", "--say", f"from {SECRETS['backend']} PIN=9182", "--say",
                 f"connecting to https://user:{SECRETS['url']}@hub/x", "--never-ready", "--crash-when",
                 str(host.gate("crash")), "--exit-code", "7"]
    daemon = Daemon(host)
    if not how.startswith("local"):
        daemon.start()
    try:
        if how == "api":
            host.open_gate("crash")
            status, answer, _ = daemon.begin("w", *arguments, wait=True)
            assert status == 502
            told = [json.dumps(answer)]
        elif how in ("spawn", "local"):
            host.open_gate("crash")
            failed = host.spawn("w", "--wait", "--json", "--", *arguments)
            answer = json.loads(failed.stdout)
            told = [failed.stdout + failed.stderr]
            failed = host.spawn("v", "--wait", "--", *arguments)
            told.append(failed.stdout + failed.stderr)
        else:
            assert host.spawn("w", "--", *arguments).returncode == 0
            waiting = host.start("--json", "worker", "wait", "w")
            host.open_gate("crash")
            told = [waiting.communicate(timeout=PATIENCE_S)[0]]
            answer = json.loads(told[0])
        assert answer["error"]["code"] == "WORKER_START_FAILED", answer
        lines = answer["error"]["details"]["log_tail"]
        assert "it is [redacted]." in lines and "from [redacted] PIN=[redacted]" in lines, lines
        told.append(host.run("explain", "w").stdout + host.run("worker", "show", "w", "--json").stdout)
        if daemon.process:
            told.append(daemon.log.read_text())
        for text in told:
            check_no_secrets(text)
            assert "9182" not in text
        raw = host.run("worker", "logs", "w").stdout
        assert f"it is {SECRETS['argument']}." in raw.splitlines()
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.kill()


@pytest.mark.parametrize("how", ["daemon", "local"])
def test_a_plan_tells_no_secrets(host, how):
    with open(host.config, "a", encoding="utf-8") as config:
        config.write(f'env = {{ SOME_API_KEY = "{SECRETS["backend"]}" }}\n')
    arguments = [f"--api-key={SECRETS['argument']}", "--say", f"again {SECRETS['backend']}"]
    daemon = Daemon(host)
    if how == "daemon":
        daemon.start()
    try:
        shown = host.spawn("w", "--dry-run", "--json", "--", *arguments)
        assert shown.returncode == 0, shown.stderr
        check_no_secrets(shown.stdout)
        assert json.loads(shown.stdout)["command"][-3:] == ["--api-key=[redacted]", "--say", "again [redacted]"]
    finally:
        if daemon.process:
            daemon.kill()


def test_a_spawn_token_is_never_told(host):
    with open(host.config, "a", encoding="utf-8") as config:
        config.write(f'[backends.calls]\nextends = "fake"\nready.callback = true\n'
                     f'command = ["{host.command()[0]}"]\n')
    text = host.config.read_text()
    program = re.search(r'command = \["([^"]+fake-worker)"', text).group(1)
    host.config.write_text(text.replace(f'command = ["{host.command()[0]}"]',
                                        f'command = ["{program}", "--port", "{{port}}", "--print-env", "--never-ready", '
                                        f'"--crash-when", "{host.gate("crash")}"]'))
    daemon = Daemon(host)
    daemon.start()
    try:
        status, answer, _ = daemon.begin("w", backend="calls")
        assert status == 202, answer
        variables = pathlib.Path(f"/proc/{answer['pid']}/environ").read_bytes().split(b"\0")
        token = next(v.split(b"=", 1)[1].decode() for v in variables if v.startswith(b"POOL_SPAWN_TOKEN="))
        host.open_gate("crash")
        wait_gone(daemon, "w")
        answer = why(daemon, "w")
        assert token in host.log("w").read_text()  # the engine told it, not we
        assert token not in json.dumps(answer) + pathlib.Path(answer["bundle_path"]).read_text()
    finally:
        daemon.kill()


# ---- memory of the host ----

@pytest.fixture
def counted(tmp_path, ports, group):  # noqa: F811
    """A daemon that was started in a leaf of a delegated group, so that the memory of each worker is counted."""
    if "memory" not in (group / "cgroup.controllers").read_text().split():
        pytest.skip("no memory controller can be used here")
    leaf = group / "start"
    leaf.mkdir()
    word = tmp_path / "word"
    os.mkfifo(word)
    host = Host(tmp_path, ports, config=f'[backends.eats]\ncommand = ["/bin/sh", "-c", "read word < {word}; exec tail '
                                        '/dev/zero"]\nready.http = "/health"\ndevice = "cpu"\n')
    daemon = Daemon(host)
    daemon.command = ["/bin/sh", "-c", f'echo 0 > {leaf}/cgroup.procs && exec "$@"', "sh", str(DAEMON)]
    daemon.word = word
    daemon.start()
    yield daemon
    if daemon.process.poll() is None:
        daemon.kill()
    host.stop_everything()


def limit(folder):
    for name, value in (("memory.swap.max", "0"), ("memory.max", str(32 << 20))):
        if (folder / name).exists():
            (folder / name).write_text(value)


@pytest.mark.parametrize("is_own", [True, False])
def test_what_the_kernel_killed_for_memory(counted, group, is_own):  # noqa: F811
    status, answer, _ = counted.begin("w", backend="eats")
    assert status == 202, answer
    own = hierarchy() / group_of(answer["pid"]).lstrip("/")
    if not (own / "memory.events").exists():
        pytest.skip("memory is not counted here")
    limit(own if is_own else group)
    counted.word.write_text("go\n")
    wait_gone(counted, "w")
    crash = why(counted, "w")["crash"]
    if not is_own and crash["memory"]["oom_kills"] == 0:
        pytest.skip("the kernel took another process of the group")
    assert crash["cause"] == ("out_of_group_memory" if is_own else "out_of_memory"), crash["why"]
    assert crash["exit_signal"] == signal.SIGKILL and crash["memory"]["oom_kills"] >= 1
    assert crash["memory"]["is_counted"] is True and crash["memory"]["limit_bytes"] == (32 << 20 if is_own else None)


# ---- GPUs ----

@pytest.fixture
def driver(tmp_path):
    made = Driver(tmp_path / "world")
    made.write()
    return made


@pytest.fixture
def on_gpus(tmp_path, ports, driver):
    from pool_host import FAKE_NVML
    host = Host(tmp_path, ports, device="gpu", fake_args=("--vram-claims", str(driver.claims), "--vram",
                                                          f"visible:{1 << 30}"),
                config=f'[gpu]\ninventory = "nvml:{FAKE_NVML}"\nrefresh_interval_ms = 200\n')
    host.environment["FAKE_NVML_CONFIG"] = str(driver.path)
    daemon = Daemon(host)
    daemon.start()
    wait_until(lambda: len(daemon.get("/v2/gpus")[1].get("gpus", [])) == 2, what="a snapshot")
    yield daemon
    if daemon.process.poll() is None:
        daemon.kill()
    host.stop_everything()


def begin_on(daemon, worker_id, index):
    status, answer, _ = daemon.begin(worker_id, gpu_id=index, required_vram_bytes=2 << 30, wait=True)
    assert status == 200, answer
    return answer["pid"]


def test_errors_of_its_device_before_its_end(on_gpus, driver):
    faults = Faults(on_gpus, driver)
    faults.wait_until_heard()  # by errors of the other device
    pid = begin_on(on_gpus, "w", 0)
    other = begin_on(on_gpus, "other", 1)
    driver.tell(0, XID, 79)
    faults.wait(lambda f: f["data"] == 79)
    os.kill(pid, signal.SIGABRT)
    os.kill(other, signal.SIGABRT)
    wait_gone(on_gpus, "w")
    wait_gone(on_gpus, "other")
    crash = why(on_gpus, "w")["crash"]
    assert [(f["gpu_uuid"], f["kind"], f["data"]) for f in crash["faults"]] == [(UUIDS[0], "xid", 79)]
    assert crash["cause"] == "gpu_fault" and "XID 79" in crash["why"] and "before" in crash["why"]
    theirs = why(on_gpus, "other")["crash"]["faults"]
    assert theirs and {f["gpu_uuid"] for f in theirs} == {UUIDS[1]}


def test_errors_of_its_device_after_its_end(on_gpus, driver):
    faults = Faults(on_gpus, driver)
    faults.wait_until_heard()
    os.kill(begin_on(on_gpus, "w", 0), signal.SIGABRT)
    wait_gone(on_gpus, "w")
    assert why(on_gpus, "w")["crash"]["cause"] == "signal"
    driver.tell(0, XID, 48)
    faults.wait(lambda f: f["data"] == 48)
    wait_until(lambda: why(on_gpus, "w")["crash"]["faults"] != [], what="the late error in its bundle")
    crash = why(on_gpus, "w")["crash"]
    assert [f["data"] for f in crash["faults"]] == [48] and crash["exit_signal"] == signal.SIGABRT


def test_what_it_held_over_time(on_gpus):
    pid = begin_on(on_gpus, "w", 0)

    def is_observed():
        return (on_gpus.worker("w")["peak_vram_bytes"] or 0) >= 1 << 30

    wait_until(is_observed, what="its memory seen by the daemon")
    os.kill(pid, signal.SIGKILL)
    wait_gone(on_gpus, "w")
    crash = why(on_gpus, "w")["crash"]
    samples = crash["samples"]
    assert {s["gpu_uuid"] for s in samples} == {UUIDS[0]} and crash["watched_since"]
    # the first one is the plan's: nothing held, and what was free
    assert samples[0]["at"] == crash["created_at"] and samples[0]["free_bytes"] == crash["free_before_start_bytes"]
    assert max(s["observed_bytes"] or 0 for s in samples) >= 1 << 30
    assert min(s["free_bytes"] for s in samples) <= samples[0]["free_bytes"] - (1 << 30)
    assert [s["at"] for s in samples[1:]] == sorted(s["at"] for s in samples[1:])
    assert "held" in on_gpus.host.run("worker", "why", "w").stdout


# ---- who writes it ----

def test_a_daemon_that_is_killed_leaves_it_to_the_next(daemon):
    pids = {name: daemon.begin(name, wait=True)[1]["pid"] for name in ("before", "after")}
    os.kill(daemon.process.pid, signal.SIGSTOP)  # it will not see the first one's end
    os.kill(pids["before"], signal.SIGSEGV)
    wait_until(lambda: not is_running(pids["before"]))
    daemon.kill()
    os.kill(pids["after"], signal.SIGKILL)
    wait_until(lambda: not is_running(pids["after"]))
    assert files(daemon.host) == []
    daemon.start()
    for name, pid in pids.items():
        answer = why(daemon, name)
        assert answer["status"] == "stopped" and answer["crash"]["pid"] == pid, answer["why"]
        assert answer["crash"]["is_command_known"] is True
    daemon.kill()
    # and a command, when there is no next one
    alone = daemon.host.json("worker", "why", "before")
    daemon.start()
    assert why(daemon, "before") == alone


def test_only_so_many_are_kept(daemon):
    n = KEPT + 12
    for i in range(n):
        status, answer, _ = daemon.begin(f"w{i}", "--exit-at-once", wait=True)
        assert status == 502, answer
    assert len(files(daemon.host)) == KEPT
    assert why(daemon, f"w{n - 1}")["crash"]["cause"] == "exit_code"
    first = why(daemon, "w0") if daemon.worker("w0") else None
    assert first is None or (first["crash"] is None and "newer ones have taken its place" in first["why"])


def test_a_damaged_bundle_is_said_to_be_one(daemon):
    os.kill(daemon.begin("w", wait=True)[1]["pid"], signal.SIGKILL)
    wait_gone(daemon, "w")
    path = pathlib.Path(why(daemon, "w")["bundle_path"])
    whole = path.read_bytes()
    for text in (b"", whole[:100], b"\xff" * 50, b"[]", whole.replace(b'"format":1', b'"format":9')):
        path.write_bytes(text)
        answer = why(daemon, "w")
        assert answer["crash"] is None and "can not be read" in answer["bundle_error"]
        shown = daemon.host.run("worker", "why", "w")
        assert shown.returncode == 0 and "can not be read" in shown.stdout
    # a link to somewhere else is not followed
    path.unlink()
    path.symlink_to("/etc/passwd")
    answer = why(daemon, "w")
    assert answer["crash"] is None and "root:" not in json.dumps(answer)


@pytest.mark.skipif(not can_mount(), reason="nothing can be mounted here")
def test_a_full_disk_loses_nothing_else(host):
    daemon = Daemon(host)
    state = host.state_dir
    daemon.command = ["unshare", "--mount", "sh", "-c", f'mkdir -p {state} && mount -t tmpfs -o size=3m,mode=700 tmpfs '
                      f'{state} && exec "$@"', "sh", str(DAEMON)]
    daemon.start()
    inside = pathlib.Path(f"/proc/{daemon.process.pid}/root{state}")
    pid = daemon.begin("w", wait=True)[1]["pid"]
    try:
        with open(inside / "ballast", "wb", buffering=0) as ballast:
            with pytest.raises(OSError):
                while True:
                    ballast.write(bytes(4096))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "worker.bundle_failed" in daemon.log.read_text(), what="the word in the log")
        assert daemon.get("/health")[0] == 200
        (inside / "ballast").unlink()
        wait_until(lambda: daemon.get("/v2/workers")[1]["workers"] == [], what="its record")
        assert daemon.worker("w")["stop_reason"] == "signalled"
        crash = why(daemon, "w")["crash"]  # there is none where the record was written first
        assert crash is None or crash["exit_signal"] == signal.SIGKILL
        assert list((inside / "crashes").glob("*.json.*")) == []
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)
        daemon.kill()


def test_what_is_in_the_way_is_no_reason_to_forget_an_end(daemon):
    (daemon.host.state_dir / "crashes").write_text("in the way")
    os.kill(daemon.begin("w", wait=True)[1]["pid"], signal.SIGKILL)
    wait_gone(daemon, "w")
    assert "worker.bundle_failed" in daemon.log.read_text()
    answer = why(daemon, "w")
    assert answer["crash"] is None and "could not be kept" in answer["why"]
    daemon.kill()
    pid = None
    done = daemon.host.spawn("v", "--wait")
    assert done.returncode == 0, done.stderr
    pid = daemon.host.json("worker", "show", "v")["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    listed = daemon.host.run("worker", "list", "--all")
    assert listed.returncode == 0 and "could not be kept" in listed.stderr


def test_it_is_written_off_the_loop(daemon):
    """A hundred deaths at once, and every question is answered in between."""
    pids = []
    for i in range(30):
        status, answer, _ = daemon.begin(f"w{i}", wait=True)
        assert status == 200, answer
        pids.append(answer["pid"])
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: daemon.get("/health")[0] == 200 and daemon.get("/v2/workers")[1]["workers"] == [],
               what="their ends")
    assert len(files(daemon.host)) == 30
    assert {why(daemon, f"w{i}")["crash"]["pid"] for i in range(30)} == set(pids)
    assert subprocess.run(["true"], timeout=PATIENCE_S).returncode == 0
