"""Workers in every mood of the fake one, through `worker spawn` with and without --wait: what is reported, and what
is left behind, which after a failed start is nothing.
"""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.request

import pytest
from pool_host import FAKE_WORKER, PATIENCE_S, is_listening, is_running, listening, wait_until

LOG_MAX = 16 << 20


def args(*words):
    return [word for argument in words for word in ("--arg", str(argument))]


def check_nothing_left(host, worker_id, port=None):
    assert host.processes() == {}
    assert host.rows() == []
    for number in range(host.ports[0], host.ports[0] + 3) if port is None else [port]:
        assert not is_listening(number)
    return host.all_rows()[worker_id]


def answers(port):
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status
    return None


def notes(path):
    """name -> numbers of what the fake worker wrote down."""
    found = {}
    if path.exists():
        for line in path.read_text().splitlines():
            name, number = line.split()
            found.setdefault(name, []).append(int(number))
    return found


# ---- ready ----


def test_ready_at_once(host):
    done = host.spawn("w", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["status"] == "ready" and answer["port"] == host.ports[0] and answers(answer["port"]) == 200
    row = host.rows()[0]
    assert row["status"] == "ready" and row["port_proof"] == "process_tree" and row["pid"] == answer["pid"]
    assert host.processes() == {answer["pid"]: "w"}


def test_without_waiting_a_later_command_sees_it_ready(host):
    done = host.spawn("w", "--json", *args("--ready-when", host.gate("ready")))
    assert done.returncode == 0 and json.loads(done.stdout)["status"] == "spawning"
    assert [row["status"] for row in host.rows()] == ["spawning"]
    host.open_gate("ready")
    wait_until(lambda: host.rows()[0]["status"] == "ready", what="readiness")
    assert host.rows()[0]["ready_at"]


def test_503_then_200(host, tmp_path):
    """It listens at once and answers 503 for a while; --wait returns soon after its first 200, and not before."""
    timestamps = tmp_path / "timestamps"
    done = host.spawn("w", "--wait", *args("--ready-after-ms", 200, "--timestamps", timestamps))
    returned_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert done.returncode == 0, done.stderr
    said = notes(timestamps)
    assert said["listen"][0] < said["ready"][0] <= said["first_healthy_answer"][0] < returned_ns
    assert host.rows()[0]["ready_boottime_ns"] >= said["ready"][0]


def test_listens_late(host, tmp_path):
    timestamps = tmp_path / "timestamps"
    done = host.spawn("w", "--wait", *args("--listen-after-ms", 200, "--timestamps", timestamps))
    assert done.returncode == 0, done.stderr
    assert host.rows()[0]["ready_boottime_ns"] >= notes(timestamps)["listen"][0]


def test_waiting_later(host):
    assert host.spawn("w", *args("--ready-after-ms", 300)).returncode == 0
    row = host.json("worker", "wait", "w")
    assert row["status"] == "ready"
    assert host.json("worker", "wait", "w")["status"] == "ready"
    assert host.refusal("worker", "wait", "nobody")["code"] == "WORKER_NOT_FOUND"


# ---- never ready ----


def test_never_ready(host):
    error = host.spawn_refusal("w", "--wait", "--start-timeout", 2500, *args("--never-ready", "--say", "loading 1 %"))
    assert error["code"] == "WORKER_START_TIMEOUT" and error["retriable"] is True
    details = error["details"]
    assert details["worker_id"] == "w" and details["start_timeout_ms"] == 2500 and details["is_listening"] is True
    assert details["last_status_code"] == 503 and details["elapsed_ms"] >= 2500
    assert "loading 1 %" in json.dumps(details)
    row = check_nothing_left(host, "w")
    assert row["status"] == "stopped" and row["stop_reason"] == "start_timeout"


def test_never_listens(host):
    error = host.spawn_refusal("w", "--wait", "--start-timeout", 300, *args("--listen-after-ms", 60000))
    assert error["code"] == "WORKER_START_TIMEOUT"
    assert error["details"]["is_listening"] is False and "last_status_code" not in error["details"]
    check_nothing_left(host, "w")


def test_never_ready_and_will_not_go(host):
    error = host.spawn_refusal("w", "--wait", "--start-timeout", 300, *args(
        "--never-ready", "--ignore-sigterm", "--grandchildren", 2, "--grandchildren-leave-session",
        "--grandchildren-ignore-sigterm"))
    assert error["code"] == "WORKER_START_TIMEOUT"
    check_nothing_left(host, "w")


def test_progress_extends_the_deadline(host):
    """It writes to its log all the while, so it is waited for longer than the timeout."""
    done = host.spawn("w", "--wait", "--start-timeout", 2500, *args(
        "--ready-after-ms", 3500, "--flood-log", 60000000, "--flood-log-rate", 1000000))
    assert done.returncode == 0, done.stderr


def test_nobody_waits_for_one_that_is_never_ready(host):
    assert host.spawn("w", "--start-timeout", 100, *args("--never-ready")).returncode == 0
    for _ in range(3):
        assert [row["status"] for row in host.rows()] == ["spawning"]
    assert host.json("worker", "stop", "w")["status"] == "stopped"
    check_nothing_left(host, "w")


# ---- ends before it is ready ----


@pytest.mark.parametrize("mood, detail", [
    (["--exit-at-once", "--exit-code", 3], ("exit_code", 3)),
    (["--exit-at-once", "--exit-code", 0], ("exit_code", 0)),
    (["--never-ready", "--crash-after-ms", 150, "--exit-code", 77], ("exit_code", 77)),
    (["--never-ready", "--crash-after-ms", 150, "--crash-signal", "SEGV"], ("exit_signal", signal.SIGSEGV)),
    (["--never-ready", "--crash-after-ms", 150, "--crash-signal", "KILL"], ("exit_signal", signal.SIGKILL)),
], ids=["code3", "code0", "code77", "SEGV", "KILL"])
def test_ends_before_it_is_ready(host, mood, detail):
    said = args("--say", "first line", "--say", "error: out of luck")
    error = host.spawn_refusal("w", "--wait", *said, *args(*mood))
    assert error["code"] == "WORKER_START_FAILED" and error["details"][detail[0]] == detail[1]
    assert "error: out of luck" in json.dumps(error["details"])
    row = check_nothing_left(host, "w")
    assert row["stop_reason"] == "start_failed" and row[detail[0]] == detail[1]


def test_the_last_lines_are_shown_to_people(host):
    done = host.spawn("w", "--wait", *args("--say", "error: \x1b]0;evil\x07 out of luck", "--exit-at-once"))
    assert done.returncode == 8
    assert "out of luck" in done.stderr and "WORKER_START_FAILED" in done.stderr
    assert "\x1b" not in done.stderr and "\x07" not in done.stderr


def test_ends_before_it_is_ready_and_nobody_waits(host):
    assert host.spawn("w", *args("--never-ready", "--crash-when", host.gate("crash"), "--exit-code", 5)).returncode == 0
    host.open_gate("crash")
    wait_until(lambda: host.processes() == {}, what="the crash")
    row = check_nothing_left(host, "w")
    assert row["stop_reason"] == "lost"


def test_ends_and_leaves_grandchildren(host):
    """Its main process fails; what it left in other sessions is ended with it."""
    error = host.spawn_refusal("w", "--wait", *args(
        "--never-ready", "--crash-after-ms", 200, "--grandchildren", 2, "--grandchildren-leave-session",
        "--grandchildren-ignore-sigterm"))
    assert error["code"] == "WORKER_START_FAILED" and error["details"]["exit_code"] == 1
    check_nothing_left(host, "w")


def test_a_program_that_can_not_run(host, tmp_path):
    for name, text in {"not-executable": b"x", "no-format": b"\x7fELF garbage", "no-interpreter": b"#!/no/where\n"}.items():
        program = tmp_path / name
        program.write_bytes(text)
        program.chmod(0o644 if name == "not-executable" else 0o755)
        config = host.config.read_text()
        host.config.write_text(config.replace(str(FAKE_WORKER), str(program)))
        error = host.spawn_refusal(name, "--wait")
        assert error["code"] == "BACKEND_UNAVAILABLE" and error["retriable"] is False, name
        host.config.write_text(config)
        assert host.rows() == [] and host.processes() == {}


# ---- stopping ----


def test_stop(host):
    assert host.spawn("w", "--wait").returncode == 0
    row = host.json("worker", "stop", "w")
    assert row["status"] == "stopped" and row["stop_reason"] == "requested" and row["exit_code"] == 0
    assert check_nothing_left(host, "w")["exit_code"] == 0


def test_stop_one_that_takes_its_time(host):
    assert host.spawn("w", "--wait", *args("--term-takes-ms", 200)).returncode == 0
    row = host.json("worker", "stop", "w")
    assert row["exit_code"] == 0 and row["exit_signal"] is None
    check_nothing_left(host, "w")


def test_stop_one_that_ignores_sigterm(host):
    assert host.spawn("w", "--wait", *args("--ignore-sigterm")).returncode == 0
    began = time.monotonic()
    row = host.json("worker", "stop", "w", "--grace", 300)
    assert row["exit_signal"] == signal.SIGKILL and row["exit_signal_name"] == "SIGKILL"
    assert time.monotonic() - began >= 0.3
    check_nothing_left(host, "w")


def test_stop_without_waiting(host):
    assert host.spawn("w", "--wait", *args("--term-takes-ms", 300)).returncode == 0
    assert host.json("worker", "stop", "w", "--no-wait")["status"] == "stopping"
    wait_until(lambda: host.rows() == [], what="the end")
    assert check_nothing_left(host, "w")["stop_reason"] == "requested"


def test_stop_while_it_starts(host):
    waiting = host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait", "--json",
                         *args("--never-ready"))
    wait_until(lambda: host.processes(), what="the worker")
    assert host.json("worker", "stop", "w")["status"] == "stopped"
    error = json.loads(waiting.communicate(timeout=PATIENCE_S)[0])["error"]
    assert error["code"] == "WORKER_START_FAILED" and waiting.returncode == 8
    assert check_nothing_left(host, "w")["stop_reason"] == "requested"


def test_stop_one_that_is_stopped_by_a_signal(host):
    """SIGSTOP keeps a process from noticing SIGTERM; the stop lets it go on."""
    assert host.spawn("w", "--wait").returncode == 0
    os.kill(host.rows()[0]["pid"], signal.SIGSTOP)
    row = host.json("worker", "stop", "w", "--grace", 5000)
    assert row["exit_code"] == 0
    check_nothing_left(host, "w")


@pytest.mark.parametrize("mood", ["plain", "leave", "leave-ignore", "ignore"])
def test_stop_takes_the_grandchildren_along(host, tmp_path, mood):
    timestamps = tmp_path / "timestamps"
    flags = {"plain": [], "leave": ["--grandchildren-leave-session"], "ignore": ["--grandchildren-ignore-sigterm"],
             "leave-ignore": ["--grandchildren-leave-session", "--grandchildren-ignore-sigterm"]}[mood]
    assert host.spawn("w", "--wait", *args("--grandchildren", 3, "--timestamps", timestamps, *flags)).returncode == 0
    children = notes(timestamps)["grandchild_pid"]
    assert len(children) == 3 and all(map(is_running, children))
    grace_ms = 3000 if "ignore" in mood else 60000  # who ignores SIGTERM is waited for all that time
    row = host.json("worker", "stop", "w", "--grace", grace_ms)
    assert row["status"] == "stopped" and row["exit_code"] == 0
    assert not any(map(is_running, children))
    check_nothing_left(host, "w")


def test_force_takes_the_grandchildren_along(host, tmp_path):
    timestamps = tmp_path / "timestamps"
    assert host.spawn("w", "--wait", *args("--grandchildren", 3, "--timestamps", timestamps,
                                           "--grandchildren-leave-session")).returncode == 0
    row = host.json("worker", "stop", "w", "--force")
    assert row["exit_signal"] == signal.SIGKILL
    assert not any(map(is_running, notes(timestamps)["grandchild_pid"]))
    check_nothing_left(host, "w")


# ---- ports ----


def test_a_stranger_on_the_port_is_never_taken_for_the_worker(host, tmp_path):
    """It answers 200 and is of another session, parent and environment."""
    timestamps = tmp_path / "timestamps"
    error = host.spawn_refusal("w", "--wait", "--start-timeout", 800,
                               *args("--stranger-port", "--timestamps", timestamps))
    stranger = notes(timestamps)["stranger_pid"][0]
    try:
        assert error["code"] == "WORKER_START_TIMEOUT"
        assert is_running(stranger), "a stranger is not ours to kill"
        assert answers(host.ports[0]) == 200
        assert host.rows() == [] and host.processes() == {}
    finally:
        os.kill(stranger, signal.SIGKILL)


def test_nobody_waits_and_a_stranger_answers(host, tmp_path):
    timestamps = tmp_path / "timestamps"
    assert host.spawn("w", *args("--stranger-port", "--timestamps", timestamps)).returncode == 0
    wait_until(lambda: answers(host.ports[0]) == 200, what="the stranger")
    try:
        for _ in range(3):
            assert [row["status"] for row in host.rows()] == ["spawning"]
    finally:
        os.kill(notes(timestamps)["stranger_pid"][0], signal.SIGKILL)


@contextlib.contextmanager
def stranger_after_spawn(host, port, *arguments):
    """A start whose port is taken by us between its plan and its bind: the worker listens late."""
    command = host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait", "--json",
                         *arguments, *args("--listen-when", host.gate("listen")))
    wait_until(lambda: host.processes(), what="the worker")
    with listening(port):
        first = next(iter(host.processes()))
        host.open_gate("listen")
        yield command, first


def test_a_chosen_port_that_is_lost_is_chosen_again(host):
    with stranger_after_spawn(host, host.ports[0]) as (command, first):
        answer = json.loads(command.communicate(timeout=PATIENCE_S)[0])
        assert command.returncode == 0, answer
        assert answer["worker_id"] == "w" and answer["status"] == "ready"
        assert answer["port"] == host.ports[0] + 1 and answer["pid"] != first
        assert answers(answer["port"]) == 200
        assert host.processes() == {answer["pid"]: "w"}
        row = host.rows()[0]
        assert row["port"] == answer["port"] and row["pid"] == answer["pid"]
        assert row["uri"] == answer["uri"] == f"http://127.0.0.1:{answer['port']}"


def test_an_asked_port_that_is_lost_is_a_failure(host):
    with stranger_after_spawn(host, host.ports[0], "--port", str(host.ports[0])) as (command, _):
        error = json.loads(command.communicate(timeout=PATIENCE_S)[0])["error"]
        assert command.returncode == 8 and error["code"] == "WORKER_START_FAILED"
        assert error["details"]["exit_code"] == 98
        assert host.rows() == [] and host.processes() == {}


def test_a_port_that_is_shared_is_no_port(host):
    """SO_REUSEPORT lets a stranger of the same user share it: half of the requests would go elsewhere."""
    command = host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait", "--json",
                         "--start-timeout", "3000", *args("--reuseport", "--listen-when", host.gate("listen")))
    wait_until(lambda: host.processes(), what="the worker")
    stranger = subprocess.Popen([FAKE_WORKER, "--reuseport", "--port", str(host.ports[0])], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_listening(host.ports[0]), what="the stranger")
        host.open_gate("listen")
        error = json.loads(command.communicate(timeout=PATIENCE_S)[0])["error"]
        assert error["code"] == "WORKER_START_TIMEOUT"
        assert host.rows() == [] and host.processes() == {} and stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_stranger_on_a_port_of_the_range_is_passed_by(host):
    with listening(host.ports[0]):
        assert host.spawn("w", "--wait").returncode == 0
        assert host.rows()[0]["port"] == host.ports[0] + 1


# ---- the log ----


def test_a_flooded_log_stays_bounded(host):
    """Holes are punched, so offsets stay: the end is where it was, and what is left of the text is in its place."""
    flood = 50 << 20
    assert host.spawn("w", "--wait", *args("--flood-log", flood, "--say", "beginning")).returncode == 0
    log = host.log("w")
    wait_until(lambda: log.stat().st_size >= flood, what="the flood")
    size = log.stat().st_size
    with log.open("rb") as file:
        file.seek(-4096, os.SEEK_END)
        before = file.read()
    assert len(host.rows()) == 1
    assert log.stat().st_size == size
    if log.stat().st_blocks * 512 >= flood:
        pytest.skip("this file system has no holes")
    assert log.stat().st_blocks * 512 <= LOG_MAX
    with log.open("rb") as file:
        file.seek(-4096, os.SEEK_END)
        assert file.read() == before
        assert os.lseek(file.fileno(), 0, os.SEEK_DATA) > 0
    shown = host.run("worker", "logs", "w", "--tail", "2")
    assert shown.returncode == 0 and len(shown.stdout.splitlines()) == 2
    whole = host.run("worker", "logs", "w")
    assert whole.returncode == 0 and "\0" not in whole.stdout
    assert host.run("worker", "stop", "w").returncode == 0


def test_the_log_has_what_the_worker_said(host):
    assert host.spawn("w", "--wait", *args("--say", "hello", "--say", "zwei w\u00f6rter")).returncode == 0
    shown = host.run("worker", "logs", "w")
    assert "hello\nzwei w\u00f6rter\n" in shown.stdout
    assert (host.log("w").stat().st_mode & 0o777) == 0o600
    assert host.run("worker", "stop", "w").returncode == 0
    assert "hello" in host.run("worker", "logs", "w").stdout


# ---- interrupted ----


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_an_interrupted_wait_leaves_the_worker(host, signal_number):
    command = host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait", "--json",
                         *args("--ready-when", host.gate("ready")))
    wait_until(lambda: host.processes() and blocks(command.pid, signal_number), what="the wait")
    command.send_signal(signal_number)
    error = json.loads(command.communicate(timeout=PATIENCE_S)[0])["error"]
    assert command.returncode == 130 and error["code"] == "CANCELLED" and error["details"]["worker_id"] == "w"
    assert [row["status"] for row in host.rows()] == ["spawning"]
    host.open_gate("ready")
    wait_until(lambda: host.rows()[0]["status"] == "ready", what="readiness")


def test_ctrl_c_at_a_terminal_does_not_reach_the_worker(host):
    """The terminal signals the whole foreground group; workers are sessions of their own."""
    command = host.start("worker", "spawn", "fake", "--model", f"file:{host.model}", "--id", "w", "--wait",
                         *args("--ready-when", host.gate("ready")), process_group=0)
    wait_until(lambda: host.processes() and blocks(command.pid, signal.SIGINT), what="the wait")
    os.killpg(command.pid, signal.SIGINT)
    _, errors = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 130 and "w" in errors
    host.open_gate("ready")
    wait_until(lambda: host.rows()[0]["status"] == "ready", what="readiness")


def test_an_interrupted_stop_goes_on_stopping(host):
    assert host.spawn("w", "--wait", *args("--term-when", host.gate("term"))).returncode == 0
    command = host.start("worker", "stop", "w", "--json")
    wait_until(lambda: [row["status"] for row in host.rows()] == ["stopping"] and
               blocks(command.pid, signal.SIGINT), what="the stop")
    command.send_signal(signal.SIGINT)
    error = json.loads(command.communicate(timeout=PATIENCE_S)[0])["error"]
    assert command.returncode == 130 and error["code"] == "CANCELLED"
    host.open_gate("term")
    wait_until(lambda: host.rows() == [], what="the end")
    assert check_nothing_left(host, "w")["stop_reason"] == "requested"


def blocks(pid, signal_number):
    """The command has come to where it takes the signal as a wish."""
    for line in pathlib.Path("/proc", str(pid), "status").read_text().splitlines():
        if line.startswith("SigBlk:"):
            return int(line.split()[1], 16) >> (signal_number - 1) & 1
    return False
