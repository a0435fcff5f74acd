"""rbees-pool as people and scripts meet it: outputs, exit codes, and what it does with hostile surroundings."""
import fcntl
import hashlib
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time

import pytest
from pool_host import PATIENCE_S, PROGRAM, Host, is_listening, is_running, wait_until

ESCAPE = "\x1b[31mred\x07"


def error_of(done):
    """The error document of a run with --json, which is all of its output."""
    return json.loads(done.stdout)["error"]


def json_of(host, *arguments):
    """As host.json, for lines that end in words for the worker."""
    done = host.run("--json", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def on_terminal(host, *arguments, env=None, columns=100, interrupt_when=None, send=signal.SIGINT):
    """Runs with all outputs on a terminal; returns (exit status, what was shown)."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**host.environment, "TERM": "xterm", "LC_ALL": "C.UTF-8", **(env or {})}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(host.command(*arguments), env=environment, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:  # EIO: the other end is closed by everybody
                break
        if interrupt_when and interrupt_when in shown:
            process.send_signal(send)
            interrupt_when = None
    status = process.wait(timeout=PATIENCE_S)
    os.close(master)
    return status, shown.decode("utf-8")


# --- the life of a worker -----------------------------------------------------------------------------------------


def test_life(host):
    done = host.spawn("w1", "--wait", "--label", "team=search", "--ctx", "512")
    assert done.returncode == 0, done.stderr
    facts = dict(re.findall(r"^([a-z ]+): +(.*)$", done.stdout, re.M))
    assert facts["id"] == "w1" and facts["status"] == "ready"
    port, pid = int(facts["port"]), int(facts["pid"])
    assert is_listening(port) and is_running(pid) and os.path.exists(facts["log"])

    (row,) = host.rows()
    assert (row["worker_id"], row["status"], row["port"], row["pid"]) == ("w1", "ready", port, pid)
    assert row["labels"] == {"team": "search"} and row["ctx_size"] == 512
    head, line = host.run("worker", "list").stdout.splitlines()
    assert head.split() == ["ID", "STATUS", "BACKEND", "MODEL", "GPU", "PORT", "PID", "VRAM/MEM", "AGE"]
    assert line.split()[:7] == ["w1", "ready", "fake", "tiny.gguf", "cpu", str(port), str(pid)]

    assert host.json("worker", "show", "w1")["uri"] == f"http://127.0.0.1:{port}"
    assert re.search(r"^label: +team=search$", host.run("worker", "show", "w1").stdout, re.M)
    assert host.json("worker", "wait", "w1")["status"] == "ready"

    stopped = host.json("worker", "stop", "w1")
    assert stopped["status"] == "stopped" and stopped["stop_reason"] == "requested"
    assert not is_running(pid) and not is_listening(port) and not host.rows()


def test_history(host):
    assert host.spawn("w1", "--wait").returncode == 0
    (row,) = host.rows()
    os.kill(row["pid"], signal.SIGKILL)
    wait_until(lambda: not host.rows(), what="the worker's end")
    (gone,) = host.json("worker", "list", "--all")["workers"]
    assert gone["status"] == "stopped" and gone["stop_reason"] == "lost"
    assert "lost" in host.run("worker", "list", "--all").stdout
    assert host.run("worker", "show", "w1").returncode == 0
    assert "listening" in host.run("worker", "logs", "w1").stdout
    assert host.spawn("w1", "--wait").returncode == 0  # its name is free again
    assert [row["status"] for row in host.json("worker", "list", "-a")["workers"]] == ["ready", "stopped"]


def test_start_without_waiting(host):
    answer = json_of(host, "worker", "spawn", "fake", "-m", f"file:{host.model}", "--", "--ready-after-ms", "300")
    assert answer["status"] == "spawning" and answer["worker_id"].startswith("worker-")
    assert answer["gpu_id"] is None and answer["reserved_memory_bytes"] > 0
    assert host.json("worker", "wait", answer["worker_id"])["status"] == "ready"


def test_waited_answer_has_the_same_shape(host):
    arguments = ["worker", "spawn", "fake", "-m", f"file:{host.model}"]
    assert host.json(*arguments).keys() == host.json(*arguments, "--wait").keys()


def test_arguments_and_environment_reach_the_worker(host):
    host.spawn("w1", "--wait", "--env", "COLOUR=blue=ish", "--arg", "--print-env", "--", "--print-args", "--say", "a b")
    lines = host.json("worker", "logs", "w1")["lines"]
    assert "a b" in lines and any("COLOUR=blue=ish" in line for line in lines)


def test_a_start_that_fails_shows_the_log(host):
    done = host.spawn("w1", "--wait", "--", "--say", "dying now", "--exit-at-once", "--exit-code", "3")
    assert done.returncode == 8 and not done.stdout
    assert "WORKER_START_FAILED" in done.stderr and "dying now" in done.stderr
    error = error_of(host.spawn("w2", "--wait", "--json", "--", "--say", "dying", "--exit-at-once", "--exit-code", "3"))
    assert error["code"] == "WORKER_START_FAILED" and error["details"]["exit_code"] == 3
    assert error["details"]["log_tail"][-1] == "dying"
    assert host.rows() == []


def test_a_start_that_takes_too_long(host):
    done = host.spawn("w1", "--wait", "--start-timeout", "200", "--json", "--", "--never-ready")
    assert done.returncode == 8 and error_of(done)["code"] == "WORKER_START_TIMEOUT"
    assert not host.processes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_wait_leaves_the_worker(host, number):
    status, shown = on_terminal(host, "worker", "spawn", "fake", "-m", f"file:{host.model}", "--id", "w1", "--wait",
                                "--", "--never-ready", interrupt_when=b"starting", send=number)
    assert status == 130 and "CANCELLED" in shown and "w1" in shown
    (row,) = host.rows()
    assert row["status"] == "spawning" and is_running(row["pid"])


def test_dry_run_starts_nothing(host):
    plan = json_of(host, "worker", "spawn", "fake", "-m", f"file:{host.model}", "-n", "--id", "w1", "--", "--x")
    assert plan["dry_run"] is True and plan["command"][-1] == "--x" and plan["worker"]["worker_id"] == "w1"
    assert plan["ledger"]["available_bytes"] >= plan["reserved_bytes"] > 0
    assert not any("=" in name for name in plan["environment_names"])
    assert host.spawn("w1", "-n").returncode == 0
    assert not host.processes() and host.json("worker", "list", "--all")["workers"] == []
    refused = host.spawn("w1", "-n", "--vram", "900TiB", "--json")
    assert refused.returncode == 7 and error_of(refused)["code"] == "INSUFFICIENT_MEMORY"


def test_stop_without_waiting_and_by_force(host):
    host.spawn("w1", "--wait")
    (row,) = host.rows()
    done = host.run("worker", "stop", "w1", "--no-wait")
    assert done.returncode == 0 and "stopping" in done.stdout
    wait_until(lambda: not is_running(row["pid"]), what="the worker's end")
    host.spawn("w2", "--wait", "--", "--ignore-sigterm")
    stopped = host.json("worker", "stop", "w2", "--force")
    assert stopped["exit_signal"] == 9


# --- logs ---------------------------------------------------------------------------------------------------------


def test_logs(host):
    host.spawn("w1", "--wait", "--", "--say", "one", "--say", ESCAPE, "--say", "three")
    raw = host.run("worker", "logs", "w1").stdout
    assert raw.startswith(f"one\n{ESCAPE}\nthree\n")  # into a pipe: what it wrote
    lines = raw.splitlines()
    assert host.run("worker", "logs", "w1", "--tail", "2").stdout.splitlines() == lines[-2:]
    assert host.run("worker", "logs", "w1", "-n0").stdout == ""
    document = host.json("worker", "logs", "w1", "--tail", "3")
    assert document["worker_id"] == "w1" and document["lines"] == lines[-3:]
    status, shown = on_terminal(host, "worker", "logs", "w1")
    assert status == 0 and "\x1b[31m" not in shown and "\\x1b[31mred\\x07" in shown
    os.unlink(document["log_path"])
    gone = host.run("worker", "logs", "w1", "--json")
    assert gone.returncode != 0 and error_of(gone)["code"] in ("NOT_FOUND", "WORKER_NOT_FOUND")


def test_logs_follow_until_the_end(host):
    host.spawn("w1", "--wait")
    follower = host.start("worker", "logs", "w1", "--follow")
    assert "listening" in follower.stdout.readline()
    (row,) = host.rows()
    with open(row["log_path"], "a", encoding="utf-8") as log:  # as the worker would
        log.write("later\n")
    wait_until(lambda: "later" in follower.stdout.readline(), what="the line")
    assert follower.poll() is None
    assert host.run("worker", "stop", "w1").returncode == 0
    follower.communicate(timeout=PATIENCE_S)
    assert follower.returncode == 0


def test_logs_follow_is_interrupted(host):
    host.spawn("w1", "--wait")
    follower = host.start("worker", "logs", "w1", "-f")
    follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    follower.communicate(timeout=PATIENCE_S)
    assert follower.returncode == 0
    assert host.run("worker", "logs", "w1", "-f", "--json").returncode == 2


# --- errors and exit codes ----------------------------------------------------------------------------------------

USAGE = [
    ([], ""),
    (["worker"], "help worker"),
    (["wroker"], "'worker'"),
    (["worker", "spwan"], "'worker spawn'"),
    (["worker", "list", "--al"], "--all"),
    (["worker", "spawn", "fake"], "--model"),
    (["worker", "show"], "ID"),
    (["worker", "show", "a", "b"], "'b'"),
    (["worker", "logs", "a", "--tail", "many"], "many"),
    (["models", "verify"], "--all"),
    (["help", "nothing"], "nothing"),
]


@pytest.mark.parametrize("words,mentions", USAGE, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_usage_errors(host, words, mentions):
    done = host.run(*words)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("rbees-pool: INVALID_REQUEST: ") and mentions in done.stderr
    done = host.run(*words, "--json")
    assert done.returncode == 2 and not done.stderr
    error = error_of(done)
    assert error["code"] == "INVALID_REQUEST" and error["retriable"] is False


def test_exit_codes(host):
    model = f"file:{host.model}"
    host.spawn("w1", "--wait")
    (row,) = host.rows()
    bad = host.models / "bad.gguf"
    bad.write_bytes(b"GGUF" + b"\xff" * 64)
    cases = [
        (2, "INVALID_REQUEST", ["worker", "spawn", "fake", "-m", "file:relative"]),
        (2, "INVALID_REQUEST", ["worker", "spawn", "fake", "-m", model, "--id", "../x"]),
        (2, "INVALID_REQUEST", ["worker", "spawn", "fake", "-m", model, "--label", "no"]),
        (3, "MODEL_NOT_FOUND", ["worker", "spawn", "fake", "-m", f"file:{host.models}/none.gguf"]),
        (3, "MODEL_NOT_FOUND", ["models", "show", "none"]),
        (3, "MODEL_NOT_FOUND", ["models", "show", "hf:org/none"]),
        (3, "BACKEND_NOT_FOUND", ["worker", "spawn", "fkae", "-m", model]),
        (3, "WORKER_NOT_FOUND", ["worker", "show", "none"]),
        (3, "WORKER_NOT_FOUND", ["worker", "stop", "none"]),
        (3, "WORKER_NOT_FOUND", ["worker", "wait", "none"]),
        (3, "WORKER_NOT_FOUND", ["worker", "logs", "none"]),
        (5, "ALREADY_EXISTS", ["worker", "spawn", "fake", "-m", model, "--id", "w1"]),
        (5, "ALREADY_EXISTS", ["worker", "spawn", "fake", "-m", model, "--port", row["port"]]),
        (6, "MODEL_UNVERIFIED", ["models", "verify", model]),
        (6, "MODEL_INCOMPATIBLE", ["worker", "spawn", "fake", "-m", f"file:{bad}"]),
        (7, "INSUFFICIENT_MEMORY", ["worker", "spawn", "fake", "-m", model, "--vram", "900TiB"]),
    ]
    for status, code, words in cases:
        done = host.run(*words, "--json")
        assert (done.returncode, error_of(done)["code"]) == (status, code), words
        assert not done.stderr, words
        done = host.run(*words)
        assert done.returncode == status and code in done.stderr and not done.stdout, words
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", row["port"] + 1))
        stranger.listen()
        done = host.run("worker", "spawn", "fake", "-m", model, "--port", row["port"] + 1, "--json")
        assert (done.returncode, error_of(done)["code"]) == (7, "PORT_UNAVAILABLE")
    host.run("worker", "stop", "w1")
    assert host.run("worker", "stop", "w1").returncode == 5


def test_a_backend_that_is_not_there(tmp_path, ports):
    host = Host(tmp_path, ports, config='[backends.gone]\ncommand = ["/nonexistent/engine", "{port}", "{model_path}"]\n'
                                        'device = "cpu"\nready.http = "/health"\n')
    done = host.run("worker", "spawn", "gone", "-m", f"file:{host.model}", "--json")
    assert (done.returncode, error_of(done)["code"]) == (7, "BACKEND_UNAVAILABLE")
    done = host.run("worker", "spawn", "metal", "-m", f"file:{host.model}", "--json")
    assert (done.returncode, error_of(done)["code"]) == (7, "BACKEND_UNAVAILABLE")


def test_details_when_verbose(host):
    words = ["worker", "spawn", "fake", "-m", f"file:{host.model}", "--vram", "900TiB"]
    assert "required" not in host.run(*words).stderr.split("\n", 1)[1]
    assert "_bytes = " in host.run(*words, "-v").stderr


def test_json_also_when_the_error_stands_before_it(host):
    assert error_of(host.run("--nonsense", "worker", "list", "--json"))["code"] == "INVALID_REQUEST"
    behind = host.run("worker", "show", "--nonsense", "--", "--json")
    assert not behind.stdout and behind.returncode == 2


# --- models, devices, configuration -------------------------------------------------------------------------------


@pytest.fixture
def catalogued(tmp_path, ports):
    catalog = tmp_path / "catalog.toml"
    host = Host(tmp_path, ports)
    config = host.config.read_text().replace("[pool]\n", f'[pool]\ncatalogs = ["{catalog}"]\n')
    host.config.write_text(config)
    sum_ = hashlib.sha256(host.model.read_bytes()).hexdigest()
    size = host.model.stat().st_size
    other = host.models / "other.gguf"
    other.write_bytes(b"x" * size)
    entries = [("tiny", host.model, sum_), ("wrong", other, sum_), ("absent", host.models / "none.gguf", sum_)]
    catalog.write_text("".join(f'[[models]]\nid = "{name}"\nname = "The {name}"\nfile = "{path}"\nsize = {size}\n'
                               f'sha256 = "{digest}"\n' for name, path, digest in entries))
    yield host
    host.stop_everything()


def conditions(host):
    return {model["id"]: model["condition"] for model in host.json("models", "catalog")["models"]}


def test_models(catalogued):
    host = catalogued
    assert conditions(host) == {"tiny": "unverified", "wrong": "unverified", "absent": "absent"}
    # what was changed just now is hashed, not remembered: a change during that could go unseen
    wait_until(lambda: time.time() - host.model.stat().st_ctime > 1.2, what="the model's second birthday")
    result = host.json("models", "verify", "tiny")
    assert result["verified"] and not result["remembered"] and result["hashed_bytes"] > 0
    again = host.json("models", "verify", "tiny")
    assert again["remembered"] and again["hashed_bytes"] == 0 and again["sha256"] == result["sha256"]
    forced = host.json("models", "verify", "tiny", "--force")
    assert not forced["remembered"]
    done = host.run("models", "verify", "--all", "--json")
    assert done.returncode == 6 and not done.stderr
    by_id = {model["model"]: model for model in json.loads(done.stdout)["models"]}
    assert by_id["tiny"]["error"] is None and by_id["wrong"]["error"]["code"] == "MODEL_CORRUPT"
    assert "absent" not in by_id
    assert conditions(host) == {"tiny": "verified", "wrong": "corrupt", "absent": "absent"}
    for_people = host.run("models", "verify", "--all")
    assert for_people.returncode == 6 and "tiny: verified" in for_people.stdout
    table = host.run("models", "catalog").stdout.splitlines()
    assert table[0].split() == ["ID", "STATE", "SIZE", "NAME", "FROM"] and len(table) == 4


def test_model_show(catalogued):
    document = catalogued.json("models", "show", "tiny", "--ctx", "1024")
    assert document["condition"] == "unverified" and document["header"]["format"] == "gguf"
    assert document["estimate_gpu"]["ctx_size"] == 1024
    assert document["estimate_gpu"]["total_bytes"] > document["estimate_gpu"]["weights_bytes"] > 0
    assert re.search(r"^needs, CPU: ", catalogued.run("models", "show", "tiny").stdout, re.M)
    absent = catalogued.json("models", "show", "absent")
    assert absent["condition"] == "absent" and absent["header"] is None and absent["estimate_gpu"] is None
    assert catalogued.run("models", "show", "absent").returncode == 0
    assert catalogued.json("models", "show", f"file:{catalogued.model}")["on_disk"]["path"] == str(catalogued.model)


GPUS = '''
[[gpus]]
uuid = "GPU-00000000-0000-4000-8000-000000000001"
name = "Evil \\u202e name"
vram_total_bytes = "24 GiB"
vram_used_bytes = "6 GiB"
'''


def test_gpus_and_status(tmp_path, ports):
    gpus = tmp_path / "gpus.toml"
    gpus.write_text(GPUS)
    host = Host(tmp_path, ports, config=f'[gpu]\ninventory = "static:{gpus}"\n')
    (gpu,) = host.json("gpu", "list")["gpus"]
    assert gpu["vram_total_bytes"] == 24 << 30
    assert not host.state_dir.exists()  # looking at GPUs needs no state
    for arguments in (["gpu", "list"], ["gpu", "list", "-v"], ["status"]):
        done = host.run(*arguments)
        assert done.returncode == 0 and "24.0 GiB" in done.stdout
        assert "\u202e" not in done.stdout and "\\xe2\\x80\\xae" in done.stdout
    status = host.json("status")
    assert status["gpus"][0]["ledger"]["total_bytes"] == 24 << 30 and status["workers"] == []
    assert str(host.state_dir) in host.run("status").stdout
    gpus.write_text("nonsense")
    done = host.run("gpu", "list", "--json")
    assert done.returncode == 2 and error_of(done)["code"] == "INVALID_CONFIG"


def test_no_gpus_is_no_error(tmp_path, ports):
    host = Host(tmp_path, ports, config='[gpu]\ninventory = "nvml:/nonexistent/libnvidia-ml.so.1"\n')
    done = host.run("gpu", "list")
    assert done.returncode == 0 and "no GPUs: " in done.stdout
    document = host.json("gpu", "list")
    assert document["gpus"] == [] and document["reason"]
    assert host.run("status").returncode == 0


def test_config(host, tmp_path):
    values = {value["key"]: value for value in host.json("config", "show", "--state-dir", "/tmp/elsewhere")["values"]}
    assert values["pool.state_dir"] == {"key": "pool.state_dir", "value": '"/tmp/elsewhere"', "origin": "flag --state-dir"}
    assert str(host.config) in values["workers.port_range"]["origin"]
    assert values["workers.stop_grace_ms"]["origin"] == "default"
    host.environment["POOL_WORKERS_STOP_GRACE_MS"] = "1234"
    shown = host.run("config", "show", "--origin").stdout
    assert re.search(r"^workers.stop_grace_ms = 1234 +# environment POOL_WORKERS_STOP_GRACE_MS$", shown, re.M)
    again = tmp_path / "again.toml"
    again.write_text(host.run("config", "show").stdout)  # what is shown can be read back
    del host.environment["POOL_WORKERS_STOP_GRACE_MS"]
    first = host.run("config", "show").stdout
    host.environment["POOL_CONFIG"] = str(again)
    second = subprocess.run([PROGRAM, "config", "show"], env=host.environment, capture_output=True, text=True, check=True)
    assert "workers.stop_grace_ms = 1234" in second.stdout
    assert second.stdout.replace("1234", "30000").splitlines()[1:] == first.splitlines()[1:]


def test_config_check(host, tmp_path):
    assert host.run("config", "check").returncode == 0
    assert host.json("config", "check") == {"valid": True, "file": str(host.config), "problems": []}
    bad = tmp_path / "bad.toml"
    bad.write_text('[workers]\nport_rnage = "1-2"\nstop_grace_ms = "soon"\n[pool]\nid = 3\n')
    done = host.run("config", "check", "--config", bad)
    assert done.returncode == 2 and done.stdout.count("error: ") == 3 and "port_range" in done.stdout
    done = host.run("config", "check", "--json", "--config", bad)
    assert done.returncode == 2 and not done.stderr
    document = json.loads(done.stdout)
    assert document["valid"] is False and len(document["problems"]) == 3
    done = host.run("worker", "list", "--json", "--config", bad)
    assert done.returncode == 2 and error_of(done)["code"] == "INVALID_CONFIG"
    catalog = tmp_path / "catalog.toml"
    catalog.write_text('[[models]]\nid = "a b"\n[[models]]\nid = "c"\n')
    host.config.write_text(f'pool.catalogs = ["{catalog}"]\n')
    done = host.run("config", "check")
    assert done.returncode == 2 and f"{catalog}:2:" in done.stdout


# --- surroundings -------------------------------------------------------------------------------------------------


def test_two_state_directories(host, tmp_path):
    other = ["--state-dir", tmp_path / "other"]
    assert host.spawn("w1", "--wait").returncode == 0
    assert host.spawn("w1", "--wait", *other).returncode == 0
    (row,), (other_row,) = host.rows(), host.json("worker", "list", *other)["workers"]
    assert row["pid"] != other_row["pid"] and row["port"] != other_row["port"]
    assert host.run(*other, "worker", "stop", "w1").returncode == 0
    assert is_running(row["pid"]) and not is_running(other_row["pid"])


def test_a_home_that_can_not_be_written(host):
    """As somebody else when the tests run as root, for whom nothing is read-only."""
    somebody = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pool-test-home-") as home:
        os.chmod(home, 0o555)
        environment = {**host.environment, "HOME": home}

        def run(*words):
            return subprocess.run([PROGRAM, *words], env=environment, cwd="/", capture_output=True, text=True,
                                  check=False, **somebody)

        try:
            assert run("version").returncode == 0
        except PermissionError:
            pytest.skip("the program lies where only root may look")
        for words in (["help"], ["config", "show"], ["gpu", "list"], ["models", "list"]):
            assert run(*words).returncode == 0, words
        done = run("worker", "list", "--json")
        assert done.returncode == 4 and error_of(done)["code"] == "PERMISSION_DENIED"
        assert os.listdir(home) == []


def test_a_home_that_is_not_there(host):
    environment = {**host.environment, "HOME": "/nonexistent"}
    done = subprocess.run([PROGRAM, "version"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("rbees-pool ")
    environment.pop("HOME")
    assert subprocess.run([PROGRAM, "help"], env=environment, stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("words", [["worker", "list"], ["status", "--json"], ["--version"], ["help"], ["config", "show"]],
                         ids=" ".join)
def test_a_full_disk_is_no_success(host, words):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(host.command(*words), env=host.environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "No space left" in done.stderr


def test_a_reader_that_has_gone(host):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(host.command("help"), env=host.environment, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 1 and not done.stderr


def test_closed_descriptors(host):
    """What is opened must not land on the numbers 0, 1 and 2: the output would go into the database."""
    host.spawn("w1", "--wait")
    shell = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", shell, "sh", *host.command("worker", "list")], env=host.environment)
    assert done.returncode == 1
    done = subprocess.run(["sh", "-c", shell, "sh", *host.command("worker", "stop", "w1")], env=host.environment)
    assert host.rows() == [] and len(host.json("worker", "list", "--all")["workers"]) == 1


def test_what_a_start_leaves_in_a_full_output(host):
    """The worker runs, so it is known, also when its answer could not be written."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        words = host.command("worker", "spawn", "fake", "-m", f"file:{host.model}", "--id", "w1", "--wait")
        assert subprocess.run(words, env=host.environment, stdout=full, stderr=subprocess.DEVNULL).returncode == 1
    assert [row["worker_id"] for row in host.rows()] == ["w1"]


def test_hostile_texts(host):
    done = host.spawn("w1", "--label", f"x={ESCAPE}")
    assert done.returncode == 2 and "\x1b" not in done.stderr
    for words in (["worker", "show", ESCAPE], ["models", "show", f"file:/{ESCAPE}"], [ESCAPE], [f"--{ESCAPE}"],
                  ["worker", "spawn", ESCAPE, "-m", "x"], ["--config", f"/{ESCAPE}", "worker", "list"],
                  ["worker", "show", "\udcff\udcfe"]):
        done = host.run(*words)
        assert done.returncode != 0 and "\x1b" not in done.stdout + done.stderr and "\x07" not in done.stderr, words
        done = host.run(*words, "--json")
        assert error_of(done)["message"] and "\x1b" not in done.stdout, words
    done = host.spawn("w2", "--wait", "--", "--say", ESCAPE, "--exit-at-once")
    assert done.returncode == 8 and "\x1b" not in done.stderr and "red" in done.stderr


def test_colours(host):
    host.spawn("w1", "--wait")
    assert "\x1b[32m" in on_terminal(host, "worker", "list")[1]
    assert "\x1b[" not in on_terminal(host, "worker", "list", "--no-color")[1]
    assert "\x1b[" not in on_terminal(host, "worker", "list", env={"NO_COLOR": "1"})[1]
    assert "\x1b[" not in on_terminal(host, "worker", "list", env={"TERM": "dumb"})[1]
    assert "\x1b[32m" in on_terminal(host, "worker", "list", env={"NO_COLOR": ""})[1]
    assert "\x1b[" not in host.run("worker", "list").stdout


def test_tables_fit(tmp_path, ports):
    host = Host(tmp_path, ports)
    model = host.models / ("long-name-" * 10 + ".gguf")
    model.write_bytes(host.model.read_bytes())
    done = host.run("worker", "spawn", "fake", "-m", f"file:{model}", "--id", "w1", "--wait")
    assert done.returncode == 0, done.stderr
    for columns in (80, 120):
        lines = on_terminal(host, "worker", "list", "--no-color", columns=columns)[1].splitlines()
        assert max(map(len, lines)) <= columns and "…" in lines[1] and lines[1].startswith("w1 ")
    ascii_only = on_terminal(host, "worker", "list", "--no-color", env={"LC_ALL": "C"})[1]
    assert ".." in ascii_only and ascii_only.isascii()
    assert model.name in host.run("worker", "list").stdout  # not cut for a program that reads it
    host.stop_everything()


def test_version_and_help(host):
    version = host.run("--version")
    assert version.returncode == 0 and re.fullmatch(r"rbees-pool \d+\.\d+\.\d+\n", version.stdout)
    assert host.json("version")["version"] in version.stdout
    tables = host.json("help")
    for command in tables["commands"]:
        words = command["path"].split()
        by_command = host.run("help", *words)
        assert by_command.returncode == 0 and by_command.stdout == host.run(*words, "--help").stdout
        assert command["summary"] in host.run("help").stdout
    assert host.json("worker", "list", "--help")["commands"][0]["path"] == "worker list"
    assert {c["path"].split()[0] for c in host.json("help", "worker")["commands"]} == {"worker"}


def test_the_state_directory_of_a_daemon(host):
    host.run("worker", "list")
    with open(host.state_dir / "daemon.lock", "r+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = host.run("worker", "list", "--json")
        assert done.returncode == 5 and error_of(done)["code"] == "CONFLICT"
        assert host.run("gpu", "list").returncode == 0


def test_what_is_loaded(host):
    """A list needs neither catalogs nor a driver: one that can not be had does not matter."""
    host.run("worker", "list")
    host.config.write_text(host.config.read_text() + '[gpu]\ninventory = "static:/nonexistent.toml"\n')
    host.config.write_text(host.config.read_text().replace("[pool]\n", '[pool]\ncatalogs = ["/nonexistent.toml"]\n'))
    assert host.run("worker", "list").returncode == 0
    assert host.run("models", "list").returncode == 2


def test_a_registry_that_was_lost_is_said(host):
    host.spawn("w1", "--wait")
    for name in ("pool.db", "pool.db-wal", "pool.db-shm"):
        if (host.state_dir / name).exists():
            os.unlink(host.state_dir / name)
    done = host.run("worker", "list", "--json")
    assert done.returncode == 0 and "rebuilt" in done.stderr
    assert [row["worker_id"] for row in json.loads(done.stdout)["workers"]] == ["w1"]
